// Owns: the readings of the slot while the relay runs, and the warnings that follow from them.
// Must not know: what else the second connection does.
import RelayCore

/// Made and used on the watch's thread.
struct SlotWatch {
  private let settings: PostgresSettings
  private let metrics: RelayMetrics
  private let log: Log
  private var readTime = MonotonicTime(nanoseconds: 0)
  private var walStatus = ""
  private var hasCheckedAnchor = false

  init(_ keeper: JournalKeeper) {
    settings = keeper.settings
    metrics = keeper.metrics
    log = keeper.log
  }

  mutating func read(on connection: SQLConnection, _ now: MonotonicTime) throws(RelayError) {
    guard now >= readTime else { return }
    readTime = now.advanced(milliseconds: SlotReading.interval)
    try measure(connection)
    try warnOfAnchor(connection)
  }

  private mutating func measure(_ connection: SQLConnection) throws(RelayError) {
    guard let reading = try SlotReading.read(slot: settings.slot, on: connection) else {
      metrics.slot = SlotReading()
      return
    }
    metrics.slot = reading
    guard let status = reading.walStatus, status != walStatus else { return }
    walStatus = status
    if walStatus == "unreserved" || walStatus == "lost" {
      log.warning(
        "the slot is about to lose its WAL", ("slot", settings.slot), ("wal_status", walStatus),
        ("retained_bytes", reading.retainedBytes.map(String.init) ?? "unknown"),
        ("remedy", "Raise max_slot_wal_keep_size, and let the relay catch up."))
    }
  }

  /// A window that was switched off leaves its anchor behind, which nobody moves on any more.
  private mutating func warnOfAnchor(_ connection: SQLConnection) throws(RelayError) {
    guard !hasCheckedAnchor, settings.replayWindow == nil else { return }
    hasCheckedAnchor = true
    let name = ReplaySlots.anchor(of: settings.slot)
    guard let anchor = try SlotReading.read(slot: name, on: connection) else { return }
    log.warning(
      "replay.window is off, but the anchor still exists and holds WAL on the server until it is dropped",
      ("slot", name), ("retained_bytes", anchor.retainedBytes.map(String.init) ?? "unknown"),
      ("remedy", "outboxd slot drop-anchor"))
  }
}
