// Owns: making a slot together with the snapshot of everything that was committed before it.
// Must not know: when that is safe, and what is done with the snapshot.
public import RelayCore

/// A place of the WAL, and what had been committed before it: a transaction is visible in `snapshot` if and only if
/// a stream that starts at `lsn` leaves it out.
public struct SlotStart: Equatable, Sendable {
  public var lsn: LSN
  /// A `pg_snapshot` that lists every transaction that is not committed, subtransactions too. Nil: it could not be had.
  public var snapshot: String?

  public init(lsn: LSN, snapshot: String?) {
    self.lsn = lsn
    self.snapshot = snapshot
  }
}

extension ReplicationConnection {
  /// Creates a slot. Waits until every transaction that runs now has ended, however long that takes.
  /// - Parameters:
  ///   - temporary: a slot of that name that ends with this connection, in place of the configured one.
  ///   - metrics: where the reason of the wait is shown meanwhile.
  func createSlot(
    temporary: String? = nil, settings: PostgresSettings, stop: StopSignal,
    log: Log,
    metrics: RelayMetrics? = nil
  ) throws(RelayError) -> SlotStart {
    let name = temporary ?? settings.slot
    let creation = SlotCreation(slot: name, settings: settings, stop: stop, log: log, metrics: metrics)
    let result: SQLResult
    do throws(RelayError) {
      result = try creation.run(
        "CREATE_REPLICATION_SLOT \(SQLText.identifier(name)) \(temporary == nil ? "" : "TEMPORARY ")LOGICAL pgoutput "
          + "EXPORT_SNAPSHOT", on: sql)
    } catch  where error.code == "42710" {
      // Another process has created it in the same moment.
      throw PostgresFailure.slotActive(slot: name, pid: nil, code: error.code)
    }
    guard let point = result[0, "consistent_point"].flatMap({ LSN($0) }) else {
      throw RelayError(
        .serverUnsuitable, "the server created slot \"\(name)\" without a position")
    }
    var start = SlotStart(lsn: point, snapshot: nil)
    guard let exported = result[0, "snapshot_name"] else { return start }
    do throws(RelayError) {
      // The exported snapshot lasts until the next command on this connection.
      start.snapshot = try Self.read(exported, settings: settings, stop: stop)
    } catch {
      log.error("the snapshot of the slot's start could not be read", error, level: .warning)
    }
    return start
  }

  private static func read(
    _ exported: String, settings: PostgresSettings, stop: StopSignal
  ) throws(RelayError) -> String? {
    let reader = try SQLConnection(settings, applicationName: "outboxd snapshot", stop: stop)
    try reader.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try reader.query("SET TRANSACTION SNAPSHOT \(SQLText.literal(exported))")
    return try reader.query("SELECT pg_current_snapshot()::text AS snapshot")[0, "snapshot"].map(wellFormed)
  }

  /// A snapshot of the WAL ends behind the newest transaction that committed, and begins with the oldest that runs,
  /// which may lie further on: `1666:1665:`. All below its beginning is visible then, and nothing else; yet the type
  /// pg_snapshot refuses the text.
  static func wellFormed(_ snapshot: String) -> String {
    guard let lowest = HistoryRow.lowest(snapshot), let end = HistoryRow.end(snapshot), end < lowest else {
      return snapshot
    }
    return "\(lowest):\(lowest):"
  }
}

extension PostgresSource {
  /// Creates the configured slot, and has the journal know its start where there is one.
  /// - Parameters:
  ///   - login: who connects, where that is not outboxd's own role.
  ///   - role: outboxd's own role.
  /// - Throws: `journalUnusable` where the journal is not to be trusted; what a connection throws. There is no slot then.
  public static func createSlot(
    settings: PostgresSettings, login: PostgresSettings, role: String, stop: StopSignal, log: Log
  ) throws(RelayError) -> SlotStart {
    var names = login
    names.slot = settings.slot
    names.publication = settings.publication
    let connection = try ReplicationConnection(names, stop: stop)
    let identity = try connection.identifySystem()
    let journal = CheckpointJournal(
      connection: connection.sql, slot: settings.slot, relay: SQLText.literal(role))
    let found = try journal.facts(mode: settings.journal)
    if case .unusable(let reason, let remedy) = found {
      throw RelayError(.journalUnusable, reason, remedy: remedy)
    }
    let start = try connection.createSlot(settings: names, stop: stop, log: log)
    guard found.isInUse else { return start }
    do throws(RelayError) {
      try journal.boundStatements()
      // Nobody can attach anything to the table: the role that writes may have more rights than its owner.
      try journal.locked("SHARE ROW EXCLUSIVE") { () throws(RelayError) in
        try journal.begin(
          start,
          in: Checkpoint(
            lsn: start.lsn, systemIdentifier: identity.systemIdentifier, timeline: identity.timeline),
          publication: try SlotInspector(connection: connection.sql, settings: names).publication()?
            .record(ofSlotAt: start.lsn))
      }
    } catch {
      // Nobody has read from it, and without its row nobody would know that.
      _ = try? connection.sql.query("DROP_REPLICATION_SLOT \(SQLText.identifier(settings.slot))")
      throw error
    }
    return start
  }
}
