// Owns: the statements on the table `outboxd.job`: replays and backfills, and how far they got.
// Must not know: what a job does, threads.
public import RelayCore

/// A row of `outboxd.job`.
public struct JobRecord: Equatable, Sendable {
  public var id: Int64
  /// `replay` or `backfill`.
  public var command: String
  /// JSON: everything that is needed to do the same again.
  public var request: String
  /// Where to open the source again, as `BoundedSource.position` said. Nil: at its beginning.
  public var position: String?
  /// Events that were acknowledged.
  public var events: UInt64
  /// As the server prints it.
  public var startedAt: String
  /// A process works on it now.
  public var isRunning: Bool

  public init(
    id: Int64, command: String, request: String, position: String?, events: UInt64, startedAt: String,
    isRunning: Bool
  ) {
    self.id = id
    self.command = command
    self.request = request
    self.position = position
    self.events = events
    self.startedAt = startedAt
    self.isRunning = isRunning
  }
}

/// The jobs of one slot, on a connection of its own. Confined to one thread.
public final class JobStore {
  private let connection: SQLConnection
  private let slot: String

  /// The first key of the advisory lock that a process holds on its job; the second is the job's id.
  private static let lockClass = 0x6F62_6A62

  /// Connects.
  /// - Throws: `journalUnusable` where the journal is switched off or not to be trusted; what `SQLConnection` throws.
  public init(settings: PostgresSettings, stop: StopSignal) throws(RelayError) {
    guard settings.journal != .off else {
      throw RelayError(.journalUnusable, "postgres.journal is off")
    }
    slot = settings.slot
    connection = try SQLConnection(settings, applicationName: "outboxd job", stop: stop)
    let journal = CheckpointJournal(connection: connection, slot: slot)
    try journal.requireTrust()
    try journal.boundStatements()
  }

  /// The jobs that have not come to their end, the newest first.
  /// - Throws: `journalUnusable` where the table cannot be used.
  public func unfinished(command: String) throws(RelayError) -> [JobRecord] {
    try records("j.command = \(SQLText.literal(command)) AND j.finished_at IS NULL")
  }

  /// The jobs that have sent something and come to their end, the newest first.
  /// - Throws: `journalUnusable` where the table cannot be used.
  public func finished(command: String) throws(RelayError) -> [JobRecord] {
    try records("j.command = \(SQLText.literal(command)) AND j.finished_at IS NOT NULL AND j.events > 0")
  }

  /// The job of that number, finished or not, of this slot.
  /// - Throws: `journalUnusable` where the table cannot be used.
  public func find(_ id: Int64) throws(RelayError) -> (record: JobRecord, isFinished: Bool)? {
    if let open = try records("j.id = \(id) AND j.finished_at IS NULL").first { return (open, false) }
    return try records("j.id = \(id)").first.map { ($0, true) }
  }

  private func records(_ condition: String) throws(RelayError) -> [JobRecord] {
    let result = try usable { () throws(RelayError) in
      try connection.query(
        """
        SELECT j.id, j.command, j.request::text AS request, j.position, j.events, j.started_at,
          EXISTS (SELECT FROM pg_locks l WHERE l.locktype = 'advisory' AND l.classid = \(Self.lockClass)
            AND l.objid = (j.id % 2147483647)::int::oid AND l.objsubid = 2 AND l.granted
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS running
        FROM outboxd.job j WHERE j.slot = \(SQLText.literal(slot)) AND \(condition) ORDER BY j.id DESC LIMIT 50
        """)
    }
    return result.rows.indices.compactMap { row in
      guard let id = result[row, "id"].flatMap({ Int64($0) }) else { return nil }
      return JobRecord(
        id: id, command: result[row, "command"] ?? "", request: result[row, "request"] ?? "{}",
        position: result[row, "position"], events: result[row, "events"].flatMap { UInt64($0) } ?? 0,
        startedAt: result[row, "started_at"] ?? "", isRunning: result[row, "running"] == "t")
    }
  }

  /// Enters a new job and takes it for this connection.
  /// - Throws: `journalUnusable` where the table cannot be used.
  public func begin(command: String, request: String) throws(RelayError) -> Int64 {
    let result = try usable { () throws(RelayError) in
      try connection.query(
        """
        WITH job AS (
          INSERT INTO outboxd.job (slot, command, request)
          VALUES (\(SQLText.literal(slot)), \(SQLText.literal(command)), \(SQLText.literal(request))::jsonb)
          RETURNING id)
        SELECT id, pg_try_advisory_lock(\(Self.lockClass), (id % 2147483647)::int) FROM job
        """)
    }
    guard let id = result[0, "id"].flatMap({ Int64($0) }) else {
      throw RelayError(.journalUnusable, "outboxd.job returned no id for the job")
    }
    return id
  }

  /// Takes an interrupted job for this connection. False where another process works on it.
  public func take(_ id: Int64) throws(RelayError) -> Bool {
    let result = try connection.query(
      "SELECT pg_try_advisory_lock(\(Self.lockClass), (\(id)::bigint % 2147483647)::int) AS taken")
    return result[0, "taken"] == "t"
  }

  /// Remembers how far the job has got: everything before `position` is acknowledged.
  /// - Throws: `journalUnusable` where the job has no row any more.
  public func write(_ id: Int64, position: String?, events: UInt64) throws(RelayError) {
    try update(
      id,
      "position = coalesce(\(position.map(SQLText.literal) ?? "NULL"), position), events = \(events)")
  }

  /// The job has come to its end.
  /// - Throws: `journalUnusable` where the job has no row any more.
  public func finish(_ id: Int64, events: UInt64) throws(RelayError) {
    try update(id, "events = \(events), finished_at = clock_timestamp()")
  }

  private func update(_ id: Int64, _ assignments: String) throws(RelayError) {
    let result = try connection.query(
      """
      UPDATE outboxd.job SET \(assignments), updated_at = clock_timestamp()
      WHERE id = \(id) AND slot = \(SQLText.literal(slot))
      """)
    guard result.affectedRows == 1 else {
      throw RelayError(
        .journalUnusable,
        "outboxd.job no longer has row \(id) of slot \"\(slot)\": somebody deleted it",
        remedy: "After an interruption the job must start from its beginning.")
    }
  }

  private func usable(_ body: () throws(RelayError) -> SQLResult) throws(RelayError) -> SQLResult {
    do throws(RelayError) {
      return try body()
    } catch  where error.code?.hasPrefix("42") == true || error.code == "3F000" {
      throw RelayError(
        .journalUnusable, "the table outboxd.job cannot be used: \(error.message)", code: error.code,
        remedy: "Run what outboxd init prints (schema, tables and grants).")
    }
  }
}
