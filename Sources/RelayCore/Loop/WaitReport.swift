// Owns: when a wait is told: in the metrics, for `/readyz` and `/status`, and in the log.
// Must not know: what is waited for.

/// A wait shows in `RelayMetrics.hold` once its patience is over, and in the log after a second.
struct WaitReport {
  private static let logPatience = 1_000

  private var since: MonotonicTime?
  private var isPublished = false
  /// The subject that the log has been told of.
  private var logged: String?

  /// The event, or what stands for it, still waits.
  mutating func note(
    _ wait: GateWait, at place: EventSequence, _ now: MonotonicTime, _ metrics: RelayMetrics, _ log: Log
  ) {
    let since = self.since ?? now
    self.since = since
    guard let patience = wait.patience, now >= since.advanced(milliseconds: patience) else {
      // An earlier reason is over.
      if isPublished { metrics.hold = nil }
      isPublished = false
      return
    }
    if !isPublished || metrics.hold != wait.reason { metrics.hold = wait.reason }
    isPublished = true
    guard logged != wait.subject, now >= since.advanced(milliseconds: max(patience, Self.logPatience)) else {
      return
    }
    logged = wait.subject
    log.warning(
      "waiting for \(wait.subject)", ("reason", wait.reason), ("lsn", place.commitLSN.description),
      ("index", String(place.index)))
  }

  /// It does not wait any more.
  mutating func end(_ metrics: RelayMetrics) {
    if isPublished { metrics.hold = nil }
    self = WaitReport()
  }
}
