// Owns: the statements that read and create the anchor slot.
// Must not know: when that is done, threads.
import RelayCore

struct AnchorSlot {
  let connection: SQLConnection
  let settings: PostgresSettings

  var name: String { ReplaySlots.anchor(of: settings.slot) }

  struct Reading {
    /// Without what the journal knows.
    var facts: AnchorFacts
    var time: PostgresMicroseconds
    /// An idle slot is invalidated after some time.
    var hasIdleLimit: Bool
  }

  func read() throws(RelayError) -> Reading {
    let server = try connection.query(
      """
      SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END AS wal_end,
        (SELECT setting FROM pg_settings WHERE name = 'max_slot_wal_keep_size') AS keep_megabytes,
        (SELECT setting FROM pg_settings WHERE name = 'idle_replication_slot_timeout') AS idle_limit,
        (extract(epoch FROM clock_timestamp() - timestamptz '2000-01-01 00:00:00+00') * 1000000)::bigint AS time
      """)
    let inspector = SlotInspector(connection: connection, settings: settings)
    let main = try inspector.slot()
    var facts = AnchorFacts(
      main: main, anchor: try inspector.slot(named: name),
      walEnd: server[0, "wal_end"].flatMap { LSN($0) } ?? .zero)
    facts.keepSize = server[0, "keep_megabytes"].flatMap { Int64($0) }.flatMap { $0 < 0 ? nil : $0 << 20 }
    return Reading(
      facts: facts, time: server[0, "time"].flatMap { Int64($0) } ?? 0,
      hasIdleLimit: (server[0, "idle_limit"].flatMap { Int($0) } ?? 0) > 0)
  }

  /// Creates it as a copy of the main slot, unless somebody else has done so meanwhile.
  func create(_ log: Log) throws(RelayError) {
    do throws(RelayError) {
      try connection.query(
        "SELECT pg_copy_logical_replication_slot(\(SQLText.literal(settings.slot)), \(SQLText.literal(name)), false)"
      )
    } catch  where error.code == "42710" {
      return
    }
    log.notice(
      "created the anchor, which keeps WAL to replay from", ("slot", name),
      ("max_bytes", String(settings.replayMaxBytes)),
      ("window_seconds", settings.replayWindow.map(String.init) ?? ""))
  }
}

extension PostgresSource {
  /// Creates the anchor where one is wanted and missing: before the stream begins, so that the first event is in the
  /// window too. A relay also runs without an anchor: a failure only warns, and the anchor's thread tries again.
  static func createAnchor(
    _ connection: SQLConnection, _ keeper: JournalKeeper, checkpoint: LSN, log: Log
  ) {
    guard keeper.settings.replayWindow != nil else { return }
    let anchor = AnchorSlot(connection: connection, settings: keeper.settings)
    do throws(RelayError) {
      var facts = try anchor.read().facts
      facts.checkpoint = checkpoint
      facts.sinceDrop = keeper.sinceAnchorDrop
      let decision = AnchorDecision(facts: facts, maxBytes: keeper.settings.replayMaxBytes)
      if decision.decide() == .create { try anchor.create(log) }
    } catch {
      keeper.anchorDropTime = .now()
      log.error("the anchor could not be created: the replay window begins later", error, level: .warning)
    }
  }
}
