// Owns: databases that would halt the relay or a job: what is said before, what is said when it happens, and the remedy.
import Glibc
import RelayCore
import RelayTesting
import Testing

@testable import PostgresSource

private let versions = [15, 18].filter(PostgresServer.versions.contains)

@Suite(.serialized) struct DatabaseFaultTests {
  private static let servers = versions.reduce(into: [Int: Result<PostgresServer, any Error>]()) {
    servers, version in
    let settings = version >= 18 ? ["idle_replication_slot_timeout": "1d"] : [:]
    servers[version] = Result { try PostgresServer(version: version, settings: settings) }
  }

  private func database(_ version: Int, encoding: String = "UTF8") throws -> LiveDatabase {
    try LiveDatabase(try #require(Self.servers[version]).get(), encoding: encoding)
  }

  private func decision(_ database: LiveDatabase) throws -> StartDecision {
    let facts = try PostgresSource.inspect(
      settings: database.settings, mappings: database.mappings, stop: database.stop)
    return StartDecision(facts: facts, settings: database.settings, mappings: database.mappings)
  }

  private func insert(_ type: String) -> String {
    "INSERT INTO outbox (aggregatetype, aggregateid, type, payload) VALUES ('a', '1', \(type), '{}');"
  }

  @Test(arguments: versions, [("SQL_ASCII", "chr(255)", "22021"), ("WIN1252", "chr(129)", "22P05")])
  func `text that has no form in UTF-8 halts with its transaction, and the stream goes on behind it`(
    version: Int, kind: (encoding: String, value: String, code: String)
  ) throws {
    let database = try database(version, encoding: kind.encoding)
    try database.createSlot()
    #expect(try decision(database).findings.contains { $0.message.contains(kind.encoding) })
    // In a column that no event uses.
    try database.sql("ALTER TABLE outbox ADD COLUMN note text;" + insert("'first'"))
    let before = try #require(LSN(try database.sql("SELECT pg_current_wal_insert_lsn()")))
    try database.sql(
      "INSERT INTO outbox (aggregatetype, aggregateid, type, payload, note) VALUES ('a', '1', 't', '{}', \(kind.value));"
    )
    let after = try #require(LSN(try database.sql("SELECT pg_current_wal_insert_lsn()")))
    try database.sql(insert("'last'"))
    let stream = try database.open()
    let failure = try #require(stream.failure(flushed: .zero))
    #expect(failure.kind == .rowRejected && failure.code == kind.code, "\(failure)")
    let commit = try #require(failure.commitLSN)
    #expect(commit > before && commit < after, "\(failure)")
    #expect(failure.message.contains("\(commit)") && failure.remedy?.contains("UTF-8") == true, "\(failure)")
    let next = stream.checkpoint(LSN(commit.rawValue + 1))
    stream.finish(flushed: .zero, deadline: .now())
    _ = try eventually("the slot is free", within: 10) { () -> Bool? in
      try database.sql("SELECT active FROM pg_replication_slots WHERE slot_name = '\(database.name)'") == "f"
        ? true : nil
    }
    let end = try database.open(resume: next).read(rows: 1)
    #expect(end > after)
    // The tables cannot be read either, and there the row can be corrected.
    let tables = try PostgresSource.openTables(
      TableRange(), resume: nil, settings: database.settings, mappings: database.mappings,
      stop: database.stop,
      log: database.log)
    let refused = tables.failure()
    #expect(
      refused?.kind == .rowRejected && refused?.message.contains("outbox") == true,
      "\(String(describing: refused))")
  }

  @Test(arguments: versions)
  func `a two-phase slot is refused, and the statement of the refusal helps without a loss`(version: Int)
    throws
  {
    let database = try database(version)
    let slot = database.name
    try database.sql("SELECT pg_create_logical_replication_slot('\(slot)', 'pgoutput', false, true)")
    try database.sql("BEGIN;" + insert("'prepared'") + "PREPARE TRANSACTION '\(slot)'")
    let refusal = try #require(database.refusal())
    #expect(refusal.kind == .slotUnsuitable && refusal.message.contains("two_phase"), "\(refusal)")
    #expect(try decision(database).faults.map(\.kind) == [.slotUnsuitable])
    if version >= 18 {
      #expect(refusal.remedy?.contains("ALTER_REPLICATION_SLOT \"\(slot)\" (TWO_PHASE false)") == true)
      let connection = try ReplicationConnection(database.settings, stop: database.stop)
      try connection.sql.query("ALTER_REPLICATION_SLOT \"\(slot)\" (TWO_PHASE false)")
      try database.sql("COMMIT PREPARED '\(slot)'")
      _ = try database.open().read(rows: 1)
    } else {
      #expect(refusal.remedy?.contains("pg_drop_replication_slot('\(slot)')") == true)
      try database.sql("COMMIT PREPARED '\(slot)'; SELECT pg_drop_replication_slot('\(slot)')")
      let keeper = try database.keeper()
      _ = try database.open(keeper)
      #expect(
        try database.sql("SELECT two_phase FROM pg_replication_slots WHERE slot_name = '\(slot)'") == "f")
    }
  }

  @Test(arguments: versions)
  func `a generated column is missed at the start, and from 18 on can be published`(version: Int) throws {
    let database = try database(version)
    try database.createSlot()
    try database.sql(
      "ALTER TABLE outbox DROP COLUMN type; ALTER TABLE outbox ADD COLUMN type text GENERATED ALWAYS AS ('t') STORED"
    )
    let refusal = try #require(database.refusal())
    #expect(
      refusal.kind == .publicationUnsuitable && refusal.message.contains("generated column"), "\(refusal)")
    guard version >= 18 else { return }
    #expect(refusal.remedy?.contains("publish_generated_columns = stored") == true, "\(refusal)")
    try database.sql("ALTER PUBLICATION outboxd SET (publish_generated_columns = stored)")
    #expect(try decision(database).faults.isEmpty)
    try database.sql("INSERT INTO outbox (aggregatetype, aggregateid, payload) VALUES ('a', '1', '{}')")
    _ = try database.open().read(rows: 1)
  }

  @Test(arguments: versions)
  func `check foresees what policies, NULLs, partitions and settings do`(version: Int) throws {
    let database = try database(version)
    try database.createSlot()
    try database.sql(
      "ALTER TABLE outbox ENABLE ROW LEVEL SECURITY; ALTER TABLE outbox ALTER type DROP NOT NULL; "
        + "ALTER PUBLICATION outboxd SET (publish = 'insert, update'); ALTER TABLE outbox DROP CONSTRAINT outbox_pkey"
    )
    let findings = try decision(database).findings
    for words in ["row security", "NULL in type", "UPDATE and DELETE of the table fail"] {
      #expect(findings.contains { $0.message.contains(words) }, "no \(words) in \(findings)")
    }
    #expect(findings.contains { $0.message.contains("86400 s") } == (version >= 18))
    let refused = #expect(throws: RelayError.self) {
      let tables = try PostgresSource.openTables(
        TableRange(), resume: nil, settings: database.settings, mappings: database.mappings,
        stop: database.stop, log: database.log)
      if let failure = tables.failure() { throw failure }
    }
    #expect(refused?.kind == .sourceDenied && refused?.remedy?.contains("BYPASSRLS") == true)
    try database.sql(
      """
      ALTER PUBLICATION outboxd SET (publish = 'insert'); ALTER PUBLICATION outboxd DROP TABLE outbox;
      DROP TABLE outbox;
      CREATE TABLE outbox (id uuid NOT NULL, aggregatetype text NOT NULL, aggregateid text NOT NULL,
        type text NOT NULL, payload jsonb) PARTITION BY LIST (type);
      CREATE TABLE "Part 1" PARTITION OF outbox FOR VALUES IN ('a');
      CREATE UNLOGGED TABLE "Part 2" PARTITION OF outbox FOR VALUES IN ('b');
      ALTER PUBLICATION outboxd ADD TABLE outbox;
      """)
    let fault = try #require(try decision(database).faults.first)
    #expect(fault.kind == .tableUnsuitable && fault.message.contains("\"Part 2\""), "\(fault)")
    #expect(!fault.message.contains("Part 1"))
    try database.sql("ALTER TABLE \"Part 2\" SET LOGGED")
    #expect(try decision(database).faults.isEmpty)
  }

  @Test(arguments: versions)
  func `a login that the server refuses has its SQLSTATE`(version: Int) throws {
    let database = try database(version)
    func refusal(_ more: String, user: String = "outboxd") -> RelayError? {
      var settings = database.settings
      settings.conninfo = database.server.conninfo(database.name, user: user, more: more)
      do throws(RelayError) {
        _ = try SQLConnection(settings, stop: database.stop)
        return nil
      } catch {
        return error
      }
    }
    #expect(refusal("")?.kind == nil)
    #expect(refusal("", user: "nobody_of_that_name")?.code == "28000")
    #expect(refusal("options='-c no_such_parameter=1'")?.kind == .sourceDenied)
    try database.sql("ALTER DATABASE \(database.name) CONNECTION LIMIT 0")
    let full = refusal("")
    #expect(full?.kind == .sourceUnavailable && full?.code == "53300", "\(String(describing: full))")
    #expect(full?.remedy?.contains("CONNECTION LIMIT") == true && full?.message.contains("LOCATION") == false)
  }

  @Test(arguments: versions)
  func `a former connection that the server still has is told from another outboxd`(version: Int) throws {
    let database = try database(version)
    let keeper = try database.keeper()
    let former = try database.open(keeper)
    try withExtendedLifetime(former) {
      let refusal = try #require(database.refusal(keeper))
      #expect(
        refusal.kind == .sourceUnavailable && refusal.message.contains("former connection"), "\(refusal)")
      #expect(try #require(database.refusal()).kind == .slotActive)
    }
  }

  @Test func `a timeline's history that is not there is nil, and one that cannot be read is an error`() throws
  {
    let database = try database(try #require(versions.first))
    let connection = try ReplicationConnection(database.settings, stop: database.stop)
    #expect(try connection.timelineHistory(7) == nil)
    try database.sql("SELECT pg_terminate_backend(\(connection.backend))")
    #expect(throws: RelayError.self) { try connection.timelineHistory(7) }
  }

  @Test(arguments: versions)
  func `a statement that runs when Postgres ends the connection fails with what Postgres said`(
    version: Int
  ) throws {
    let database = try database(version)
    let connection = try SQLConnection(database.settings, stop: database.stop)
    #expect {
      try connection.query("SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(60)")
    } throws: { error in
      (error as? RelayError)?.kind == .sourceUnavailable && (error as? RelayError)?.wasEndedByServer == true
    }
  }
}

extension TableSource {
  /// Reads to the end; the failure that comes before it.
  fileprivate func failure(seconds: Int = 20) -> RelayError? {
    let deadline = MonotonicTime.now().advanced(milliseconds: seconds * 1000)
    while !isAtEnd, MonotonicTime.now() < deadline {
      do throws(RelayError) {
        guard try next() == nil, !isAtEnd else { continue }
        try report(flushed: .zero, now: .now())
        _ = try SQLConnection.wait(
          descriptor, Int16(POLLIN) | (wantsWrite ? Int16(POLLOUT) : 0),
          until: MonotonicTime.now().advanced(milliseconds: 200), stop: nil)
      } catch {
        return error
      }
    }
    return nil
  }
}
