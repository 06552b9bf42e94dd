// Owns: the journal against a real server: what is durable, what is found again, what lets a server go.
import Foundation
import RelayCore
import RelayTesting
import Synchronization
import Testing

@testable import PostgresSource

@Suite(.serialized) struct JournalTests {
  @Test func aStoredCheckpointIsDurableAndFoundAgainAfterACrash() throws {
    let server = try PostgresServer(version: 15, settings: ["fsync": "on"])
    let database = try LiveDatabase(server)
    let keeper = try database.keeper()
    var stream = try database.open(keeper)
    try database.insert(5)
    let end = try stream.read(rows: 5)
    #expect(keeper.store(end) <= end)
    let durable = keeper.finish(end, deadline: MonotonicTime.now().advanced(milliseconds: 10_000))
    #expect(durable == end)
    #expect(keeper.store(end) == end)
    #expect(try database.sql("SELECT lsn FROM outboxd.checkpoint") == "\(end)")
    try stream.report(flushed: durable, now: .now())
    try server.restart(.immediate)
    // The slot forgot, the journal did not.
    #expect(try #require(try database.confirmed) < end)
    let resume = stream.checkpoint(end)
    stream = try database.open(keeper, resume: resume)
    #expect(stream.startLSN == end)
    try database.insert()
    let next = try stream.read(rows: 1, flushed: end)
    #expect(next > end)
    // The keeper has connected again.
    #expect(keeper.finish(next, deadline: MonotonicTime.now().advanced(milliseconds: 20_000)) == next)
    #expect(try database.sql("SELECT count(*) > 0 FROM outboxd.checkpoint_history") == "t")
  }

  @Test(arguments: [PostgresServer.versions.first, PostgresServer.versions.last].compactMap(\.self))
  func anEndInGoodOrderIsKnownToTheNextProcessUntilThatStreams(version: Int) throws {
    let database = try LiveDatabase(try PostgresServer(version: version))
    let first = try database.keeper(outboxes: "it's one")
    var stream = try database.open(first)
    #expect(stream.former == nil)
    try database.insert()
    let end = try stream.read(rows: 1)
    let deadline = MonotonicTime.now().advanced(milliseconds: 30_000)
    #expect(first.finish(end, deadline: deadline) == end)
    stream.finish(flushed: end, deadline: deadline)
    // A stream of the same process says nothing of another.
    stream = try database.open(first, resume: stream.checkpoint(end))
    #expect(stream.former == nil)
    first.settle(at: end, deadline: deadline)
    stream.finish(flushed: end, deadline: deadline)

    let second = try database.keeper(outboxes: "two")
    stream = try database.open(second)
    #expect(stream.former == FormerRun(outboxes: "it's one", settledAt: stream.startLSN))
    // The first one has slept, and ends only now.
    first.settle(at: end, deadline: deadline)
    stream.finish(flushed: .zero, deadline: deadline)
    stream = try database.open(try database.keeper(outboxes: "three"))
    #expect(stream.former == FormerRun(outboxes: "two", settledAt: nil))
    #expect(try database.sql("SELECT count(*) FROM outboxd.job WHERE command = 'run'") == "1")
  }

  @Test func theRowNeverGoesBackAndItsSnapshotIsProven() throws {
    let server = try PostgresServer(version: 15)
    let database = try LiveDatabase(server)
    let keeper = try database.keeper()
    let stream = try database.open(keeper)
    let deadline = MonotonicTime.now().advanced(milliseconds: 30_000)
    for _ in 0..<3 {
      try database.insert()
      let end = try stream.read(rows: 1)
      #expect(keeper.finish(end, deadline: deadline) == end)
    }
    let row = try database.sql("SELECT lsn, snapshot IS NOT NULL FROM outboxd.checkpoint")
    #expect(row.hasSuffix("|t"))
    // Rows visible in the snapshot were read before the checkpoint, and the newest is not among them.
    #expect(
      try database.integer(
        """
        SELECT count(*) FROM outbox, outboxd.checkpoint
        WHERE pg_visible_in_snapshot(outbox.xmin::text::xid8, snapshot::pg_snapshot)
        """) >= 1)
    let connection = try SQLConnection(database.settings, stop: StopSignal())
    let journal = CheckpointJournal(connection: connection, slot: database.name)
    try journal.write(
      Checkpoint(lsn: LSN(1), systemIdentifier: stream.systemIdentifier, timeline: 1), snapshot: nil)
    #expect(try database.sql("SELECT lsn, snapshot IS NOT NULL FROM outboxd.checkpoint") == row)
    try server.stop(.immediate)
  }

  @Test func anIdleStreamLetsAServerShutDown() throws {
    let server = try PostgresServer(version: 15)
    let database = try LiveDatabase(server)
    let keeper = try database.keeper()
    let stream = try database.open(keeper)
    _ = try eventually("the keeper is connected", within: 10) {
      try stream.step(keeper.store(.zero), until: .now())
      return try database.sql(
        "SELECT 1 FROM pg_stat_activity WHERE application_name = 'outboxd journal'") == "1" ? true : nil
    }
    // WAL that is nobody's event, which the server wants confirmed before it goes.
    try database.sql("CREATE TABLE other (); DROP TABLE other;")
    let stopping = try RelayThread(name: "stopper") { try? server.stop(.fast) }
    var walEnd = LSN.zero
    var error: RelayError?
    let deadline = MonotonicTime.now().advanced(milliseconds: 20_000)
    while error == nil, MonotonicTime.now() < deadline {
      do throws(RelayError) {
        if case .keepalive(let lsn)? = try stream.step(keeper.store(walEnd), until: deadline) { walEnd = lsn }
      } catch let failure {
        error = failure
      }
    }
    #expect(error?.kind == .sourceUnavailable, "\(error as Any)")
    stream.finish(flushed: .zero, deadline: .now())
    stopping.join()
    #expect(MonotonicTime.now() < deadline)
  }

  @Test func aStandbyIsWaitedForAndItsPromotionFollowed() throws {
    let server = try PostgresServer(version: 15)
    let database = try LiveDatabase(server)
    let keeper = try database.keeper()
    var stream = try database.open(keeper)
    try database.insert()
    let end = try stream.read(rows: 1)
    let deadline = MonotonicTime.now().advanced(milliseconds: 10_000)
    stream.finish(flushed: keeper.finish(end, deadline: deadline), deadline: deadline)
    try server.stop()
    try server.write("", to: "standby.signal")
    try server.start()
    let waiting = try #require(database.refusal(keeper))
    #expect(waiting.kind == .sourceUnavailable && waiting.message.contains("standby"), "\(waiting)")
    try database.sql("SELECT pg_promote()")
    stream = try database.open(keeper, resume: stream.checkpoint(end))
    #expect(stream.timeline == 2)
    #expect(stream.startLSN == end)
    #expect(try database.sql("SELECT timeline FROM outboxd.checkpoint") == "2")
    // A checkpoint that the new timeline does not have.
    let ahead = Checkpoint(
      lsn: try #require(LSN(try database.sql("SELECT pg_current_wal_lsn()"))),
      systemIdentifier: stream.systemIdentifier, timeline: 1)
    #expect(database.refusal(resume: ahead)?.kind == .timelineDiverged)
    try server.stop(.immediate)
  }

  @Test func aJournalThatVanishesEndsTheStream() throws {
    let server = try PostgresServer(version: 15)
    let database = try LiveDatabase(server)
    let keeper = try database.keeper()
    let stream = try database.open(keeper)
    try database.insert()
    let end = try stream.read(rows: 1)
    try database.sql("DROP TABLE outboxd.checkpoint")
    let deadline = MonotonicTime.now().advanced(milliseconds: 3000)
    #expect(keeper.finish(end, deadline: deadline) < end)
    let error = try #require(stream.failure(flushed: .zero))
    #expect(error.kind == .journalUnusable)
    try server.stop(.immediate)
  }

  @Test func theSlotIsMeasured() throws {
    let server = try PostgresServer(version: 15)
    let database = try LiveDatabase(server)
    let stream = try database.open(try database.keeper())
    try eventually("the slot is measured", within: 20) {
      try stream.step(.zero, until: .now())
      let slot = database.metrics.slot
      return slot?.retainedBytes ?? 0 > 0 && slot?.walStatus == "reserved"
    }
    try server.stop(.immediate)
  }

  @Test func withoutAJournalEverythingIsDurableAtOnce() throws {
    let keeper = JournalKeeper(
      settings: PostgresSettings(), mappings: [], outboxes: "", log: Log(), metrics: RelayMetrics())
    #expect(keeper.store(LSN(7)) == LSN(7))
    #expect(keeper.finish(LSN(8), deadline: .now()) == LSN(8))
  }
}

extension LiveDatabase {
  func integer(_ query: String) throws -> Int { try server.integer(query, database: name) }
}

@Suite(.serialized) struct SetupTests {
  @Test(arguments: ["01", "02"])
  func theFilesOfTheFolderPrepareADatabaseAndMayBeRunAgain(table: String) throws {
    let server = try PostgresServer(version: 15)
    let files = [table, "03", "04", "05", "06", "07"]
    let database = try LiveDatabase(server, files: files)
    for file in files { try database.sql(try LiveDatabase.file(file)) }
    database.settings.slot = "outboxd"
    let stream = try database.open(try database.keeper())
    try database.insert(2)
    _ = try stream.read(rows: 2)
    #expect(stream.relation.columns.map(\.name).prefix(3) == ["id", "aggregatetype", "aggregateid"])
    try server.stop(.immediate)
  }

  @Test func theStatementsForAConfigurationQuoteAndMayBeRunAgain() throws {
    let server = try PostgresServer(version: 15)
    let database = try LiveDatabase(server, files: [])
    try database.sql(
      """
      CREATE SCHEMA "Sales $outboxd$ 'x'"; CREATE TABLE "Sales $outboxd$ 'x'"."Out""box" (id int NOT NULL, type text NOT NULL,
        payload text, aggregatetype text NOT NULL, aggregateid text);
      CREATE TABLE parts (id int NOT NULL, type text NOT NULL, payload text, aggregatetype text NOT NULL, aggregateid text)
        PARTITION BY RANGE (id); CREATE TABLE parts_1 PARTITION OF parts DEFAULT;
      CREATE PUBLICATION "My ""Pub'" FOR TABLE parts WITH (publish = 'update');
      """)
    database.settings.slot = "named"
    database.settings.publication = "My \"Pub'"
    var mappings = [
      OutboxMapping(schema: "Sales $outboxd$ 'x'", table: "Out\"box"), OutboxMapping(table: "parts"),
    ]
    // The default source would have the names in it, and they are no URI.
    mappings[0].source = try Template("/sales")
    let role = "Re\"lay'"
    let statements = SetupSQL.statements(settings: database.settings, mappings: mappings, role: role)
    var admin = database.settings
    admin.conninfo = server.adminConninfo(database.name)
    let connection = try SQLConnection(admin, stop: StopSignal())
    for _ in 0..<2 { for statement in statements { try connection.query(statement.sql) } }
    var settings = database.settings
    settings.conninfo = server.conninfo(database.name, user: "'Re\"lay\\''")
    let facts = try PostgresSource.inspect(settings: settings, mappings: mappings, stop: StopSignal())
    let decision = StartDecision(facts: facts, settings: settings, mappings: mappings)
    #expect(decision.faults.isEmpty, "\(decision.faults)")
    #expect(decision.findings.isEmpty, "\(decision.findings)")
    // The slot's start is entered with it.
    let row = try #require(facts.journal.row)
    #expect(row.startLSN == row.checkpoint.lsn && row.startLSN == facts.slot?.confirmedFlushLSN, "\(row)")
    try server.stop(.immediate)
  }

  @Test func aTableInspectedHasTheTypesThatTheStreamGivesIt() throws {
    let server = try PostgresServer(version: 15)
    let database = try LiveDatabase(server, files: ["03", "05"])
    try database.sql(
      """
      CREATE EXTENSION citext;
      CREATE TYPE mood AS ENUM ('glad'); CREATE DOMAIN email AS text; CREATE DOMAIN nested AS email;
      CREATE DOMAIN feeling AS mood; CREATE DOMAIN folded AS citext;
      CREATE TABLE outbox (id uuid, aggregatetype citext, aggregateid email, type nested, e mood, f feeling,
        payload jsonb, h int[], i folded);
      """)
    for file in ["04", "06"] { try database.sql(try LiveDatabase.file(file)) }
    let facts = try PostgresSource.inspect(
      settings: database.settings, mappings: database.mappings, stop: StopSignal())
    let inspected = try #require(facts.tables.first).relation.columns.map { "\($0.type)".prefix(5) }
    let stream = try database.open(try database.keeper())
    try database.sql("INSERT INTO outbox DEFAULT VALUES")
    _ = try stream.read(rows: 1)
    #expect(stream.relation.columns.map { "\($0.type)".prefix(5) } == inspected)
    #expect(inspected == ["uuid", "text", "text", "text", "other", "other", "jsonb", "other", "text"])
    try server.stop(.immediate)
  }
}
