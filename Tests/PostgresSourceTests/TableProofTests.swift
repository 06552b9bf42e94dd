// Owns: that a table read has every row that the stream does not have, whatever was updated, deleted or forgotten by
// the statistics; and which rows it leaves out, by which proof.
import Foundation
import RelayCore
import RelayTesting
import Testing

@testable import PostgresSource

private let ends = [PostgresServer.versions.first, PostgresServer.versions.last].compactMap(\.self)

/// What a read handed over.
private struct Outcome {
  var ids: [String] = []
  /// After so many rows.
  var positions: [(count: Int, text: String?)] = []
  var tally = TableTally()
}

extension TableTally {
  fileprivate var sums: (certain: UInt64, doubtful: UInt64, streamed: UInt64) {
    counts.reduce((0, 0, 0)) { ($0.0 + $1.certain, $0.1 + $1.doubtful, $0.2 + $1.streamed) }
  }

  fileprivate var gap: String? { counts.compactMap(\.gap).first }
}

extension LiveDatabase {
  fileprivate func proven(
    _ range: TableRange, reads: [TableRead]? = nil, resume: String? = nil
  ) throws -> Outcome {
    var outcome = Outcome()
    let source = try PostgresSource.openTables(
      range, resume: resume, settings: settings, reads: reads ?? mappings.map { TableRead($0) },
      tally: outcome.tally, stop: stop, log: log)
    let deadline = MonotonicTime.now().advanced(milliseconds: 30_000)
    while !source.isAtEnd, MonotonicTime.now() < deadline {
      guard let change = try source.next() else {
        guard !source.isAtEnd else { break }
        _ = try SQLConnection.wait(source.descriptor, Int16(POLLIN), until: deadline, stop: nil)
        try source.report(flushed: .zero, now: .now())
        continue
      }
      switch change {
      case .insert(let row): outcome.ids.append(String(decoding: row.values[2].bytes, as: UTF8.self))
      case .commit(_, let end, _): outcome.positions.append((outcome.ids.count, source.position(after: end)))
      default: break
      }
    }
    #expect(source.isAtEnd)
    return outcome
  }

  fileprivate func add(_ ids: String...) throws {
    for id in ids {
      try sql("INSERT INTO outbox (aggregatetype, aggregateid, type) VALUES ('a', '\(id)', 't')")
    }
  }

  /// A slot and the snapshot of its start, as `outboxd init --apply` makes it.
  fileprivate func start() throws -> TableRange {
    let start = try PostgresSource.createSlot(
      settings: settings, login: settings, role: "outboxd", stop: stop, log: log)
    var range = TableRange()
    #expect(start.snapshot != nil)
    range.visibleIn = start.snapshot
    range.streamStart = start.lsn
    return range
  }

  /// The statement of `outboxd init` that makes the slot.
  fileprivate func runSlotStatement() throws {
    let setup = SetupSQL.statements(settings: settings, mappings: mappings, role: "outboxd")
    try sql(try #require(setup.last).sql)
  }
}

@Suite(.serialized) struct TableProofTests {
  /// Without the slot, so that each test has one.
  private static let servers = Result {
    try Dictionary(
      uniqueKeysWithValues: ends.map {
        ($0, try PostgresServer(version: $0, settings: ["max_replication_slots": "40"]))
      })
  }

  private func database(_ version: Int) throws -> LiveDatabase {
    try LiveDatabase(try #require(try Self.servers.get()[version]))
  }

  /// Rows before and after the start, of both some that were updated, and some of after that were deleted.
  private func change(_ database: LiveDatabase) throws {
    try database.add("new", "new updated", "new deleted")
    try database.sql(
      """
      UPDATE outbox SET type = 'u' WHERE aggregateid LIKE '%updated'; DELETE FROM outbox WHERE aggregateid LIKE '%deleted';
      BEGIN; UPDATE outbox SET type = 'v' WHERE aggregateid = 'old'; ROLLBACK;
      BEGIN; SAVEPOINT a; INSERT INTO outbox (aggregatetype, aggregateid, type) VALUES ('a', 'new too', 't');
      RELEASE a; UPDATE outbox SET type = 'w' WHERE aggregateid = 'old updated in a savepoint'; COMMIT;
      """)
  }

  private static let old = ["old", "old updated", "old updated in a savepoint"]

  @Test(arguments: ends) func exactlyTheRowsOfBeforeTheStartAreRead(version: Int) throws {
    let database = try database(version)
    try database.add("old", "old updated", "old updated in a savepoint", "old deleted")
    let range = try database.start()
    try change(database)
    try database.sql("SELECT pg_stat_reset()")
    let read = try database.proven(range)
    #expect(read.ids.sorted() == Self.old)
    #expect(read.tally.sums == (certain: 3, doubtful: 0, streamed: 3) && read.tally.gap == nil)
    // The stream has the others, and those that were deleted.
    let stream = try database.open()
    #expect(stream.startLSN == range.streamStart)
    _ = try stream.read(rows: 4)
  }

  @Test(arguments: ends) func countersThatACrashForgotDecideNothing(version: Int) throws {
    let database = try database(version)
    try database.add("old", "old updated", "old updated in a savepoint")
    let range = try database.start()
    try change(database)
    try database.server.restart(.immediate)
    #expect(try database.proven(range).ids.sorted() == Self.old)
  }

  @Test(arguments: ends) func whereTheWALIsGoneEverythingThatMayBeMissingIsReadAndSaid(version: Int) throws {
    let database = try database(version)
    try database.add("old", "old updated", "old updated in a savepoint")
    let range = try database.start()
    try change(database)
    try database.sql("SELECT pg_replication_slot_advance('\(database.name)', pg_current_wal_lsn())")
    try database.add("newest")
    let read = try database.proven(range)
    // What lies after the slot's position is still proven to be the stream's.
    #expect(read.ids.sorted() == ["new", "new too", "new updated"] + Self.old)
    #expect(read.tally.sums == (certain: 1, doubtful: 5, streamed: 1))
    #expect(read.tally.gap?.contains("\"\(database.name)\" has the WAL from") == true)
    // An anchor that has it serves as well.
    try database.sql("SELECT pg_drop_replication_slot('\(database.name)')")
    let gone = try database.proven(range)
    #expect(gone.ids.count == 7 && gone.tally.gap?.hasPrefix("no slot has the WAL from") == true)
  }

  @Test(arguments: ends) func theAnchorProvesWhatTheSlotHasLetGo(version: Int) throws {
    let database = try database(version)
    try database.add("old", "old updated", "old updated in a savepoint")
    let range = try database.start()
    try database.sql(
      "SELECT pg_copy_logical_replication_slot('\(database.name)', '\(ReplaySlots.anchor(of: database.name))', false)"
    )
    try change(database)
    try database.sql("SELECT pg_replication_slot_advance('\(database.name)', pg_current_wal_lsn())")
    let read = try database.proven(range)
    #expect(read.ids.sorted() == Self.old && read.tally.gap == nil)
  }

  @Test func moreRowsThanAreRememberedAreInDoubt() throws {
    let database = try database(try #require(ends.first))
    let range = try database.start()
    try database.insert(10)
    let connection = try SQLConnection(database.settings, stop: database.stop)
    try connection.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    let publication = try SlotInspector(connection: connection, settings: database.settings).publication()
    let catalog = TableCatalog(connection: connection, settings: database.settings, publication: publication)
    let shape = try catalog.shape(OutboxMapping())
    #expect(shape.keyColumns == ["id"])
    var reader = StreamedRowsReader(
      settings: database.settings, reads: [TableRead(OutboxMapping())], shapes: [shape], stop: database.stop,
      log: database.log)
    reader.limit = 4
    let start = try #require(range.streamStart)
    let few = try reader.read(from: start, visibleTo: connection)
    #expect(few.keys.count == 4 && few.fault?.contains("more than 4 rows") == true)
    reader.limit = 10
    let all = try reader.read(from: start, visibleTo: connection)
    #expect(all.keys.count == 10 && all.fault == nil)
    // Commits that nobody flushes are waited for.
    try connection.query("COMMIT")
    try database.sql(
      "SET synchronous_commit = off; INSERT INTO outbox (aggregatetype, aggregateid, type) VALUES ('a', 'b', 't')"
    )
    reader.limit = 100
    try connection.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT pg_current_snapshot()")
    #expect(try reader.read(from: start, visibleTo: connection).keys.count == 11)
  }

  @Test(arguments: ends) func aSlotOfThePrintedSQLIsKnownAsFresh(version: Int) throws {
    let database = try database(version)
    try database.add("1", "2", "3 updated")
    try database.runSlotStatement()
    try database.add("4", "5")
    try database.sql("DELETE FROM outbox WHERE aggregateid IN ('4', '2'); UPDATE outbox SET type = 'u'")
    func plan() throws -> BackfillPlan {
      try BackfillPlan.decide(
        try PostgresSource.inspect(
          settings: database.settings, mappings: database.mappings, stop: database.stop),
        settings: database.settings, mappings: database.mappings, acceptsDuplicates: false)
    }
    let position = try #require(try database.confirmed)
    #expect(try plan() == .before(position))
    let begun = try PostgresSource.begin(
      try plan(),
      facts: try PostgresSource.inspect(
        settings: database.settings, mappings: database.mappings, stop: database.stop),
      settings: database.settings, stop: database.stop, log: database.log)
    #expect(begun.start == SlotStart(lsn: position, snapshot: nil) && begun.covers != nil)
    var range = TableRange()
    range.streamStart = begun.start.lsn
    range.covers = begun.covers
    #expect(try database.proven(range).ids.sorted() == ["1", "3 updated"])
    // The stream goes on where the slot stands.
    let stream = try database.open()
    #expect(stream.startLSN == position)
    _ = try stream.read(rows: 2)
    stream.finish(flushed: stream.startLSN, deadline: MonotonicTime.now().advanced(milliseconds: 5_000))
  }

  @Test(arguments: ends) func aSlotThatWasThereBeforeIsNotEnteredAsFresh(version: Int) throws {
    let database = try database(version)
    try database.createSlot()
    try database.runSlotStatement()
    #expect(try database.sql("SELECT count(*) FROM outboxd.checkpoint") == "0")
    #expect(throws: RelayError.self) {
      try BackfillPlan.decide(
        try PostgresSource.inspect(
          settings: database.settings, mappings: database.mappings, stop: database.stop),
        settings: database.settings, mappings: database.mappings, acceptsDuplicates: false)
    }
  }

  /// A rewriting ALTER TABLE gives every row a new `xmin` and the table a new file node.
  @Test(arguments: ends) func aRewriteHidesNoRow(version: Int) throws {
    let database = try database(version)
    try database.insert(2500)
    let range = try database.start()
    let place = try database.proven(range).positions[1]
    let rewrite = "ALTER TABLE outbox ALTER type TYPE varchar(100), ADD z uuid DEFAULT gen_random_uuid()"
    try database.sql("\(rewrite); SELECT pg_stat_reset(); VACUUM (FREEZE) outbox")
    try database.add("new")
    let read = try database.proven(range)
    #expect(read.ids.count == 2500 && !read.ids.contains("new") && read.tally.gap == nil)
    #expect(Set(try database.proven(range, resume: place.text).ids) == Set(read.ids))
    var transactions = TableRange()
    transactions.lowestTransaction = 3
    transactions.endTransaction = 4
    #expect(try database.proven(transactions).ids.count == 2501)
  }

  /// The snapshot of before it sees none of its rows.
  @Test(arguments: ends) func aRewriteWhileTablesAreReadEndsTheRead(version: Int) throws {
    let database = try database(version)
    try database.sql(
      """
      CREATE TABLE box2 (LIKE outbox INCLUDING DEFAULTS); ALTER PUBLICATION outboxd ADD TABLE box2;
      GRANT SELECT ON box2 TO outboxd; INSERT INTO box2 (aggregatetype, aggregateid, type) VALUES ('a', 'b', 't')
      """)
    try database.insert(20)
    for (rewrite, isSeen) in [
      ("ALTER TABLE box2 ALTER type TYPE varchar(100)", true), ("TRUNCATE box2", true),
      ("ANALYZE box2", false),
    ] {
      let source = try PostgresSource.openTables(
        TableRange(), resume: nil, settings: database.settings,
        mappings: [OutboxMapping(), OutboxMapping(schema: "public", table: "box2")], stop: database.stop,
        log: database.log)
      try database.sql(rewrite)
      func read() throws {
        let deadline = MonotonicTime.now().advanced(milliseconds: 30_000)
        while !source.isAtEnd, MonotonicTime.now() < deadline {
          if try source.next() == nil, !source.isAtEnd {
            _ = try SQLConnection.wait(source.descriptor, Int16(POLLIN), until: deadline, stop: nil)
          }
        }
      }
      if isSeen {
        do {
          try read()
          Issue.record("\(rewrite) was not seen")
        } catch let error as RelayError {
          #expect(error.message.contains("table public.box2 was renamed, replaced, truncated or rewritten"))
        }
      } else {
        try read()
      }
    }
  }

  /// Keys that are NULL are all one place, also in a column that is unique.
  @Test(arguments: ends) func rowsWithoutAKeyComeAgain(version: Int) throws {
    let database = try database(version)
    try database.sql(
      "ALTER TABLE outbox ADD number bigserial UNIQUE; ALTER TABLE outbox ALTER number DROP NOT NULL")
    try database.insert(2500)
    try database.sql("UPDATE outbox SET number = NULL; DELETE FROM outbox WHERE aggregateid = 'none'")
    let whole = try database.proven(TableRange())
    #expect(Set(try database.proven(TableRange(), resume: whole.positions[0].text).ids) == Set(whole.ids))
  }

  /// A transaction that had written to a table before it joined the publication is in the stream in part.
  @Test(arguments: ends) func aReadOfAnOutboxThatJoinedWaitsForWhoWroteBefore(version: Int) throws {
    let database = try database(version)
    try database.add("old")
    _ = try database.start()
    try database.sql("CREATE TABLE box2 (LIKE outbox INCLUDING DEFAULTS); GRANT SELECT ON box2 TO outboxd")
    let writer = try database.server.startSQL(
      """
      BEGIN; INSERT INTO box2 (aggregatetype, aggregateid, type) VALUES ('a', 'late', 't'); SELECT pg_sleep(2); COMMIT
      """, database: database.name)
    try eventually("it has written", within: 10) {
      try database.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()")
        != "0"
    }
    try database.sql("ALTER PUBLICATION outboxd ADD TABLE box2")
    let mappings = [OutboxMapping(), OutboxMapping(schema: "public", table: "box2")]
    let facts = try PostgresSource.inspect(
      settings: database.settings, mappings: mappings, stop: database.stop)
    let plan = try BackfillPlan.decide(
      facts, settings: database.settings, mappings: mappings, acceptsDuplicates: false)
    #expect(plan == .joined)
    let begun = try PostgresSource.begin(
      plan, facts: facts, settings: database.settings, stop: database.stop, log: database.log)
    var range = TableRange()
    (range.visibleIn, range.streamStart, range.covers) = (begun.start.snapshot, begun.start.lsn, begun.covers)
    #expect(try database.proven(range, reads: facts.backfillReads(mappings)).ids.sorted() == ["late", "old"])
    #expect(try writer.wait(seconds: 30) == 0)
  }

  /// What an interrupted read has not sent may have another name, or be detached, when it goes on.
  @Test(arguments: ends) func aReadThatGoesOnReadsTheSameTables(version: Int) throws {
    let database = try database(version)
    try database.sql(
      """
      CREATE TABLE parts (LIKE outbox INCLUDING DEFAULTS) PARTITION BY LIST (type);
      CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN ('1'); CREATE TABLE parts_2 PARTITION OF parts DEFAULT;
      ALTER PUBLICATION outboxd SET TABLE parts; GRANT SELECT ON parts, parts_1, parts_2 TO outboxd;
      """)
    let start = try database.start().streamStart
    try database.sql(
      "INSERT INTO parts (aggregatetype, aggregateid, type) SELECT 'a', n::text, (n % 2)::text FROM generate_series(1, 2500) n"
    )
    let mappings = [OutboxMapping(schema: "public", table: "parts")]
    func facts() throws -> ServerFacts {
      try PostgresSource.inspect(settings: database.settings, mappings: mappings, stop: database.stop)
    }
    let reads = try facts().backfillReads(mappings)
    let whole = try database.proven(TableRange(), reads: reads)
    #expect(whole.ids.count == 2500)
    try database.sql(
      "ALTER TABLE parts DETACH PARTITION parts_1; ALTER TABLE parts RENAME TO parts_old; CREATE TABLE parts (LIKE outbox)"
    )
    let rest = try database.proven(TableRange(), reads: reads, resume: whole.positions[1].text)
    #expect(Set(rest.ids) == Set(whole.ids))
    // The WAL has a partition's rows under the partitioned table: they are known as the stream's all the same.
    var range = TableRange()
    range.streamStart = start
    let streamed = try database.proven(range, reads: reads)
    #expect(streamed.ids.isEmpty && streamed.tally.sums.streamed == 2500, "\(streamed.tally.counts)")
    try database.sql("DROP TABLE parts_old")
    #expect(throws: RelayError.self) { try database.proven(TableRange(), reads: reads) }
  }

  /// An update moves a row: to another place, another command, another time.
  @Test(arguments: ends) func aReadThatGoesOnHasTheRowsThatWereUpdatedMeanwhile(version: Int) throws {
    let database = try database(version)
    try database.insert(2500)
    let range = try database.start()
    let whole = try database.proven(range)
    #expect(whole.ids.count == 2500 && whole.positions.count > 2)
    let place = whole.positions[1]
    let rest = Set(whole.ids.dropFirst(place.count))
    try database.sql("UPDATE outbox SET created_at = '2001-01-01' WHERE aggregateid::int % 7 = 0")
    try database.sql("SELECT pg_stat_reset()")
    let next = try database.proven(range, resume: place.text)
    #expect(Set(next.ids).isSuperset(of: rest))
    // What was not updated comes once.
    #expect(next.ids.count <= rest.count + 2500 / 7 + 1)
  }
}
