// Owns: the one sentence that leads out of every gap.
// Must not know: how a gap is recognised or mended.

enum GapRemedy {
  static let recover =
    "outboxd recover publishes what may have been skipped, and lets outboxd run go on from there; outboxd recover "
    + "--dry-run tells first what it would do."

  /// - Parameter advice: a sentence that comes before.
  static func recover(_ advice: String) -> String { "\(advice) \(recover)" }
}
