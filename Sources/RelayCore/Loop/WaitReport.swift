// Owns: when a wait is told: in the metrics, for `/readyz` and `/status`, and in the log.
// Must not know: what is waited for.

/// A wait shows in `RelayMetrics.hold` once its patience is over, and in the log after a second.
struct WaitReport {
  private static let logPatience = 1_000

  private var since: MonotonicTime?
  private var isPublished = false
  private var isLogged = false

  /// The event, or what stands for it, still waits.
  mutating func note(
    _ wait: GateWait, at place: EventSequence, _ now: MonotonicTime, _ metrics: RelayMetrics, _ log: Log
  ) {
    let since = self.since ?? now
    self.since = since
    guard let patience = wait.patience, now >= since.advanced(milliseconds: patience) else { return }
    if !isPublished || metrics.hold != wait.reason { metrics.hold = wait.reason }
    isPublished = true
    guard !isLogged, now >= since.advanced(milliseconds: max(patience, Self.logPatience)) else { return }
    isLogged = true
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
