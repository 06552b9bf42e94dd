// Owns: the statements on the journal tables, `outboxd.checkpoint` and `outboxd.checkpoint_history`.
// Must not know: when they are written, threads.
import RelayCore

/// What transactions had committed at a place of the WAL.
struct ProvenSnapshot: Equatable {
  /// As `pg_current_snapshot()` prints it. It was taken before `lsn` was read.
  var text: String
  var lsn: LSN
}

/// What becomes of the slot's start in the journal.
enum StartEntry {
  case given
  /// As it was.
  case kept
  /// It means nothing any more.
  case unknown
}

/// The journal of one slot, on a connection of the caller's.
struct CheckpointJournal {
  let connection: SQLConnection
  let slot: String
  /// An SQL expression: the name of the role that the relay connects as.
  var relay = JournalSQL.ownRole

  private var slotLiteral: String { SQLText.literal(slot) }

  /// What there is of the journal, and its row. To be read after the slot: the other way round, a relay that
  /// runs elsewhere would make the slot look as if it had been moved.
  func facts(mode: PostgresSettings.Journal) throws(RelayError) -> JournalFacts {
    guard mode != .off else { return .off }
    let tables = try connection.query(
      """
      SELECT c.relname, has_schema_privilege(n.oid, 'USAGE') AS usable,
        has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
          AND has_table_privilege(c.oid, CASE c.relname WHEN 'checkpoint_history' THEN 'DELETE' ELSE 'UPDATE' END)
          AS granted
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = 'outboxd' AND c.relname IN ('checkpoint', 'checkpoint_history', 'job')
      """)
    let names = tables.rows.indices.compactMap { tables[$0, "relname"] }
    guard names.contains("checkpoint") else { return .absent }
    if let fault = try fault() { return .unusable(fault.message, remedy: fault.remedy) }
    for name in ["checkpoint_history", "job"] where !names.contains(name) {
      return .unusable("the table outboxd.\(name) does not exist")
    }
    for row in tables.rows.indices where tables[row, "usable"] != "t" || tables[row, "granted"] != "t" {
      return .unusable("the role lacks rights on outboxd.\(tables[row, "relname"] ?? "")")
    }
    do throws(RelayError) {
      return try locked("ACCESS SHARE") { () throws(RelayError) in try row() }
    } catch
      where error.kind == .journalUnusable || error.code?.hasPrefix("42") == true || error.code == "3F000"
    {
      return .unusable(error.message, remedy: error.remedy)
    }
  }

  /// Why the schema outboxd is no journal to be trusted; nothing of it is evaluated. Nil: it is one, or there is none and
  /// it is not required. As long as the tables are there only roles that are trusted can change that.
  private func fault(isRequired: Bool = false) throws(RelayError) -> RelayError? {
    let found = try connection.query(JournalSQL.judgement(relay: relay, isRequired: isRequired))
    guard let reason = found[0, "reason"] else { return nil }
    return RelayError(.journalUnusable, reason, remedy: found[0, "remedy"])
  }

  /// - Throws: `journalUnusable` where the journal is not there or not to be trusted.
  func requireTrust() throws(RelayError) {
    if let fault = try fault(isRequired: true) { throw fault }
  }

  /// Runs the statements in a transaction in which the table of checkpoints is locked, and was found to be trusted after
  /// that.
  /// - Throws: `journalUnusable` where it is not; what the statements throw. Nothing of them lasts then.
  func locked<Value>(
    _ mode: String, _ body: () throws(RelayError) -> Value
  ) throws(RelayError) -> Value {
    try connection.query("BEGIN")
    do throws(RelayError) {
      try connection.query(JournalSQL.lock(mode: mode))
      try requireTrust()
      let value = try body()
      try connection.query("COMMIT")
      return value
    } catch {
      _ = try? connection.query("ROLLBACK")
      throw error
    }
  }

  func trust() throws(RelayError) -> JournalTrust {
    let fault = try fault()
    let writers = try connection.query(JournalSQL.writers(relay: relay))
    return JournalTrust(
      fault: fault?.message, remedy: fault?.remedy,
      writers: writers.rows.indices.compactMap { writers[$0, "name"] })
  }

  private func row() throws(RelayError) -> JournalFacts {
    let result = try connection.query(
      """
      SELECT lsn, system_identifier, timeline, updated_at, snapshot, snapshot_lsn, publication, start_lsn, start_snapshot
      FROM outboxd.checkpoint WHERE slot = \(slotLiteral)
      """)
    guard !result.rows.isEmpty else { return .empty }
    guard let lsn = result[0, "lsn"].flatMap({ LSN($0) }),
      let system = result[0, "system_identifier"].flatMap({ UInt64($0) }),
      let timeline = result[0, "timeline"].flatMap({ UInt32($0) })
    else { return .unusable("the row of slot \"\(slot)\" cannot be read") }
    var row = JournalRow(
      Checkpoint(lsn: lsn, systemIdentifier: system, timeline: timeline), updatedAt: result[0, "updated_at"])
    row.snapshot = result[0, "snapshot"]
    row.snapshotLSN = result[0, "snapshot_lsn"].flatMap { LSN($0) }
    row.publication = result[0, "publication"].flatMap { PublicationRecord($0) }
    row.startLSN = result[0, "start_lsn"].flatMap { LSN($0) }
    row.startSnapshot = result[0, "start_snapshot"]
    return .row(row)
  }

  /// What else is known of a slot that has no row: nothing else may take it for one that was never used.
  func withoutRow(_ system: UInt64) throws(RelayError) -> JournalFacts {
    let result = try connection.query(
      """
      SELECT lsn, system_identifier, timeline, recorded_at, snapshot, snapshot_lsn FROM outboxd.checkpoint_history
      WHERE slot = \(slotLiteral) ORDER BY system_identifier = '\(system)' DESC, timeline DESC, lsn DESC LIMIT 1
      """)
    guard let lsn = result[0, "lsn"].flatMap({ LSN($0) }),
      let system = result[0, "system_identifier"].flatMap({ UInt64($0) }),
      let timeline = result[0, "timeline"].flatMap({ UInt32($0) })
    else {
      let jobs = try connection.query("SELECT FROM outboxd.job WHERE slot = \(slotLiteral) LIMIT 1")
      return jobs.rows.isEmpty ? .empty : .forgotten
    }
    var row = JournalRow(
      Checkpoint(lsn: lsn, systemIdentifier: system, timeline: timeline), updatedAt: result[0, "recorded_at"])
    row.isFromHistory = true
    row.snapshot = result[0, "snapshot"]
    row.snapshotLSN = result[0, "snapshot_lsn"].flatMap { LSN($0) }
    return .row(row)
  }

  /// Moves the slot's row forward, never back. A row that is ahead, of the same history, stays as it is.
  /// - Parameter creates: a row that is not there is made. A relay that runs makes none: with the row went the publication
  ///   and the starts, which only a start can judge.
  /// - Throws: `sourceUnavailable` where the row is of another system or of a later timeline, or gone; it invalidates the
  ///   start.
  func write(
    _ checkpoint: Checkpoint, snapshot: ProvenSnapshot?, creates: Bool = true
  ) throws(RelayError) {
    let columns = "slot, lsn, snapshot, snapshot_lsn, system_identifier, timeline"
    let assignments = """
      lsn = excluded.lsn, snapshot = coalesce(excluded.snapshot, c.snapshot),
        snapshot_lsn = coalesce(excluded.snapshot_lsn, c.snapshot_lsn), timeline = excluded.timeline,
        updated_at = clock_timestamp()
      """
    let isForward = """
      excluded.lsn >= c.lsn AND c.system_identifier = excluded.system_identifier
        AND c.timeline <= excluded.timeline
      """
    let result = try connection.query(
      creates
        ? "INSERT INTO outboxd.checkpoint AS c (\(columns)) VALUES (\(values(checkpoint, snapshot))) "
          + "ON CONFLICT (slot) DO UPDATE SET \(assignments) WHERE \(isForward)"
        : "UPDATE outboxd.checkpoint AS c SET \(assignments) FROM (VALUES (\(values(checkpoint, snapshot)))) "
          + "AS excluded (\(columns)) WHERE c.slot = excluded.slot AND \(isForward)")
    guard result.affectedRows == 0 else { return }
    let ahead = try connection.query(
      """
      SELECT FROM outboxd.checkpoint WHERE \(row(of: checkpoint.systemIdentifier)) AND timeline = \(checkpoint.timeline)
        AND lsn >= '\(checkpoint.lsn)'::pg_lsn
      """)
    if ahead.rows.isEmpty { throw noRow(of: checkpoint.systemIdentifier) }
  }

  /// The slot's row, as long as it is of this system.
  private func row(of systemIdentifier: UInt64) -> String {
    "slot = \(slotLiteral) AND system_identifier = '\(systemIdentifier)'"
  }

  /// Somebody else has written the row, or deleted it: what is known of it holds no more.
  private func noRow(of systemIdentifier: UInt64) -> RelayError {
    var error = RelayError(
      .sourceUnavailable,
      "the row of slot \"\(slot)\" for this server, system \(systemIdentifier), in outboxd.checkpoint has changed since the "
        + "stream began: another process wrote or deleted it, and outboxd wrote nothing",
      remedy:
        "None is needed: outboxd examines the journal again. SELECT * FROM outboxd.checkpoint WHERE slot = \(slotLiteral); shows "
        + "the row.")
    error.invalidatesStart = true
    return error
  }

  /// The slot begins, or began again, at `start`: what the row said before is replaced in one step. Also backwards,
  /// where a former history has ended.
  /// - Parameters:
  ///   - proven: everything visible in `start.snapshot` is published.
  ///   - keepsSnapshot: what was proven before still holds: the same cluster, and transactions that it still has.
  ///   - entry: what becomes of the slot's start, by which a backfill goes.
  func begin(
    _ start: SlotStart, in checkpoint: Checkpoint, publication: PublicationRecord?, proven: Bool = false,
    keepsSnapshot: Bool = false, start entry: StartEntry = .given
  ) throws(RelayError) {
    let snapshot = proven ? start.snapshot.map { ProvenSnapshot(text: $0, lsn: start.lsn) } : nil
    let kept =
      keepsSnapshot && snapshot == nil
      ? "" : "snapshot = excluded.snapshot, snapshot_lsn = excluded.snapshot_lsn, "
    let keptStart =
      entry == .kept ? "" : "start_lsn = excluded.start_lsn, start_snapshot = excluded.start_snapshot, "
    let lsn = entry == .given ? "'\(start.lsn)'::pg_lsn" : "NULL"
    let startSnapshot = entry == .given ? start.snapshot.map(SQLText.literal) ?? "NULL" : "NULL"
    try connection.query(
      """
      INSERT INTO outboxd.checkpoint (slot, lsn, snapshot, snapshot_lsn, system_identifier, timeline, publication,
        start_lsn, start_snapshot, updated_at)
      VALUES (\(values(checkpoint, snapshot)), \(publication.map { SQLText.literal($0.text) } ?? "NULL"),
        \(lsn), \(startSnapshot), clock_timestamp())
      ON CONFLICT (slot) DO UPDATE SET lsn = excluded.lsn, \(kept)\(keptStart)system_identifier = excluded.system_identifier,
        timeline = excluded.timeline, publication = excluded.publication, updated_at = excluded.updated_at
      """)
  }

  /// Goes back to a place of the history that the server still has. The slot's start stays what it was.
  /// - Throws: `sourceUnavailable` where there is no row of this system.
  func rewind(to checkpoint: Checkpoint, publication: PublicationRecord?) throws(RelayError) {
    let result = try connection.query(
      """
      UPDATE outboxd.checkpoint SET lsn = '\(checkpoint.lsn)'::pg_lsn, timeline = \(checkpoint.timeline),
        snapshot = CASE WHEN snapshot_lsn <= '\(checkpoint.lsn)'::pg_lsn THEN snapshot END,
        snapshot_lsn = CASE WHEN snapshot_lsn <= '\(checkpoint.lsn)'::pg_lsn THEN snapshot_lsn END,
        publication = \(publication.map { SQLText.literal($0.text) } ?? "NULL"),
        updated_at = clock_timestamp()
      WHERE \(row(of: checkpoint.systemIdentifier))
      """)
    if result.affectedRows == 0 { throw noRow(of: checkpoint.systemIdentifier) }
  }

  /// Remembers the publication as it is.
  /// - Throws: `sourceUnavailable` where there is no row of this system; it invalidates the start.
  func writePublication(
    _ publication: PublicationRecord?, of systemIdentifier: UInt64
  ) throws(RelayError) {
    guard let publication else { return }
    let result = try connection.query(
      """
      UPDATE outboxd.checkpoint SET publication = \(SQLText.literal(publication.text))
      WHERE \(row(of: systemIdentifier))
      """)
    if result.affectedRows == 0 { throw noRow(of: systemIdentifier) }
  }

  func appendHistory(_ checkpoint: Checkpoint, snapshot: ProvenSnapshot?) throws(RelayError) {
    try connection.query(
      """
      INSERT INTO outboxd.checkpoint_history
        (slot, lsn, snapshot, snapshot_lsn, system_identifier, timeline, recorded_at)
      VALUES (\(values(checkpoint, snapshot)), clock_timestamp()) ON CONFLICT DO NOTHING
      """)
  }

  /// Keeps seven days, or the replay window where that is longer.
  func pruneHistory(window: Int?) throws(RelayError) {
    let seconds = max(7 * 86_400, window ?? 0)
    try connection.query(
      """
      DELETE FROM outboxd.checkpoint_history
      WHERE slot = \(slotLiteral) AND recorded_at < now() - interval '\(seconds) seconds'
      """)
  }

  private func values(_ checkpoint: Checkpoint, _ snapshot: ProvenSnapshot?) -> String {
    """
    \(slotLiteral), '\(checkpoint.lsn)'::pg_lsn, \(snapshot.map { SQLText.literal($0.text) } ?? "NULL::text"), \
    \(snapshot.map { "'\($0.lsn)'::pg_lsn" } ?? "NULL::pg_lsn"), '\(checkpoint.systemIdentifier)', \(checkpoint.timeline)
    """
  }

  /// A snapshot, and a position that no transaction visible in it ends behind: the statement's snapshot is
  /// taken before the position is read, and a commit is in the WAL before it is visible. So once a checkpoint
  /// has reached the position, every row visible in the snapshot is published.
  func snapshot() throws(RelayError) -> ProvenSnapshot? {
    let result = try connection.query(
      "SELECT pg_current_snapshot() AS snapshot, pg_current_wal_insert_lsn() AS lsn")
    guard let text = result[0, "snapshot"], let lsn = result[0, "lsn"].flatMap({ LSN($0) }) else {
      return nil
    }
    return ProvenSnapshot(text: text, lsn: lsn)
  }

  /// A checkpoint that the server forgets in a crash, while the slot remembers, would look like a moved slot: so
  /// a commit waits for the disk. It does not wait for a standby, which may be away: a standby that is promoted
  /// without the last checkpoint has an older one, and events are sent again. And no statement waits longer for a
  /// lock than the relay waits for the statement: the backend of a client that has gone would stay.
  func boundStatements() throws(RelayError) {
    try connection.query(
      """
      SELECT set_config('synchronous_commit', 'local', false), set_config('lock_timeout', '10s', false),
        set_config('statement_timeout', '12s', false)
      """)
  }
}
