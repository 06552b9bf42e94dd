// Owns: rows that are read from tables, against the same rows as the stream sends them; order, ranges, places.
import Foundation
import RelayCore
import RelayTesting
import Testing

@testable import PostgresSource

/// One value of a row, copied.
private struct Copied: Equatable {
  var format: ColumnValue.Format
  var bytes: [UInt8]
}

private struct Read {
  var relations: [Relation] = []
  var rows: [[Copied]] = []
  /// Rows of each transaction, with its commit time.
  var transactions: [(rows: Int, time: PostgresMicroseconds)] = []
  /// After each transaction.
  var positions: [String?] = []

  mutating func take(_ change: Change, _ relation: Relation) {
    switch change {
    case .relation: relations.append(relation)
    case .begin(_, let time, _): transactions.append((0, time))
    case .insert(let row):
      rows.append(row.values.map { Copied(format: $0.format, bytes: Array($0.bytes)) })
      transactions[transactions.count - 1].rows += 1
    default: break
    }
  }

  var texts: [String] { rows.map { String(decoding: $0[0].bytes, as: UTF8.self) } }
}

extension LiveDatabase {
  fileprivate func tables(
    _ range: TableRange = TableRange(), resume: String? = nil, mappings: [OutboxMapping]? = nil
  ) throws -> Read {
    let source = try PostgresSource.openTables(
      range, resume: resume, settings: settings, mappings: mappings ?? self.mappings, stop: stop, log: log)
    var read = Read()
    let deadline = MonotonicTime.now().advanced(milliseconds: 30_000)
    while !source.isAtEnd, MonotonicTime.now() < deadline {
      guard let change = try source.next() else {
        guard !source.isAtEnd else { break }
        _ = try SQLConnection.wait(source.descriptor, Int16(POLLIN), until: deadline, stop: nil)
        try source.report(flushed: .zero, now: .now())
        continue
      }
      read.take(change, source.relation)
      if case .commit(_, let end, _) = change { read.positions.append(source.position(after: end)) }
    }
    #expect(source.isAtEnd)
    return read
  }
}

@Suite(.serialized) struct TableSourceTests {
  static let server = Result { try PostgresServer(settings: ["track_commit_timestamp": "on"]) }
  static let untracked = Result { try PostgresServer(settings: ["track_commit_timestamp": "off"]) }

  private static func everyType(_ database: LiveDatabase) throws {
    try database.sql(
      """
      DROP TABLE outbox CASCADE;
      CREATE TYPE mood AS ENUM ('glad', 'so''so');
      CREATE DOMAIN word AS text;
      CREATE TABLE outbox (gone int, id uuid DEFAULT gen_random_uuid(), aggregatetype varchar(20), aggregateid word,
        type text, payload jsonb, twice int GENERATED ALWAYS AS (1 + 1) STORED, m mood, b bytea, t timestamptz,
        d date, n numeric, f float8, r int4range, a text[], acl aclitem, j json, "odd ""name" bool);
      ALTER TABLE outbox DROP COLUMN gone;
      ALTER PUBLICATION outboxd ADD TABLE outbox; GRANT SELECT ON outbox TO outboxd;
      """)
  }

  @Test(arguments: [PostgresServer.versions.first, PostgresServer.versions.last].compactMap(\.self))
  func rowsAreByteForByteThoseOfTheStream(version: Int) throws {
    let database = try LiveDatabase(try PostgresServer(version: version, settings: [:]))
    try Self.everyType(database)
    try database.createSlot()
    for number in 0..<3 {
      try database.sql(
        """
        INSERT INTO outbox (aggregatetype, aggregateid, type, payload, m, b, t, d, n, f, r, a, acl, j, "odd ""name")
        VALUES ('order', 'é\(number)', 't', '{"a": [1, null]}', 'so''so', '\\x00ff', now(), 'today', 1.50,
          0.1, '[1,5)', '{a,NULL}', 'postgres=r/postgres', '{ "a" : 1}', true), ('x', 'y', 'z', \(number == 1
          ? "'1'" : "NULL"), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
        """)
    }
    let stream = try database.open()
    var streamed = Read()
    let deadline = MonotonicTime.now().advanced(milliseconds: 20_000)
    while streamed.rows.count < 6, MonotonicTime.now() < deadline {
      if let change = try stream.step(.zero, until: deadline) { streamed.take(change, stream.relation) }
    }
    let read = try database.tables()
    #expect(read.rows == streamed.rows)
    #expect(read.rows.count == 6)
    #expect(read.relations.count == 1)
    // An oid of the user's own types may be the domain's or the base type's.
    #expect(read.relations.first?.columns.map(\.name) == streamed.relations.first?.columns.map(\.name))
    #expect(read.relations.first?.columns[1].type == streamed.relations.first?.columns[1].type)
    // A table does not tell when a row was inserted: a commit time would be that of its last update.
    #expect(read.transactions.allSatisfy { $0.time == .unknown })
  }

  @Test func aColumnListIsRespected() throws {
    let database = try LiveDatabase(try Self.server.get())
    try database.sql("ALTER PUBLICATION outboxd SET TABLE outbox (type, id, payload)")
    try database.insert(2)
    let read = try database.tables()
    #expect(read.relations.first?.columns.map(\.name) == ["id", "type", "payload"])
    #expect(read.rows.allSatisfy { $0.count == 3 })
  }

  /// Writers that wait for the aggregate's lock: the one that began first and has the lower id commits last.
  @Test(arguments: [true, false])
  func writersThatWaitForEachOtherKeepTheirOrder(isTracked: Bool) throws {
    let database = try LiveDatabase(isTracked ? try Self.server.get() : try Self.untracked.get())
    try database.sql(
      """
      DROP TABLE outbox CASCADE;
      CREATE TABLE outbox (note text, \(isTracked ? "" : "number int GENERATED ALWAYS AS IDENTITY,") id text DEFAULT '1',
        aggregatetype text, aggregateid text, type text, payload jsonb);
      ALTER PUBLICATION outboxd ADD TABLE outbox; GRANT SELECT ON outbox TO outboxd; CREATE TABLE aggregate (id int); INSERT INTO aggregate VALUES (1)
      """)
    let early = try database.server.startSQL(
      """
      BEGIN; CREATE TABLE has_an_id (); SELECT pg_sleep(1.5);
      UPDATE aggregate SET id = 1; INSERT INTO outbox (note) VALUES ('third'), ('fourth'); COMMIT
      """, database: database.name)
    try eventually("the first has its id", within: 10) {
      try database.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()")
        != "0"
    }
    try database.sql(
      """
      BEGIN; UPDATE aggregate SET id = 1; INSERT INTO outbox (note) VALUES ('first'); SAVEPOINT a;
      INSERT INTO outbox (note) VALUES ('second'); COMMIT
      """)
    #expect(try early.wait(seconds: 30) == 0)
    #expect(try database.tables().texts == ["first", "second", "third", "fourth"])
  }

  @Test(arguments: [true, false])
  func readingGoesOnAfterAnyTransaction(isTracked: Bool) throws {
    let database = try LiveDatabase(isTracked ? try Self.server.get() : try Self.untracked.get())
    try database.sql(
      """
      CREATE TABLE parts (LIKE outbox INCLUDING DEFAULTS, day int) PARTITION BY LIST (day);
      CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1); CREATE TABLE parts_2 PARTITION OF parts DEFAULT;
      ALTER PUBLICATION outboxd ADD TABLE parts; GRANT SELECT ON parts TO outboxd;
      """)
    for number in 1...6 {
      try database.sql(
        """
        INSERT INTO outbox (aggregatetype, aggregateid, type) SELECT 'a', \(number) || '.' || n, 't' FROM generate_series(1, 700) n;
        INSERT INTO parts (aggregatetype, aggregateid, type, day) SELECT 'p', \(number) || '.' || n, 't', n % 3 FROM generate_series(1, 300) n;
        """)
    }
    // A row that somebody began to delete has lost its command number, and after VACUUM nothing shows that.
    try database.sql("BEGIN; DELETE FROM outbox WHERE aggregateid LIKE '3.5%'; ROLLBACK")
    try database.sql("VACUUM (FREEZE) outbox")
    let mappings = [OutboxMapping(), OutboxMapping(schema: "public", table: "parts")]
    let whole = try database.tables(mappings: mappings)
    #expect(whole.rows.count == 6000)
    #expect(Set(whole.rows.map { $0[0].bytes }).count == 6000)
    #expect(whole.transactions.allSatisfy { $0.rows <= 1000 })
    var done = 0
    for (index, transaction) in whole.transactions.enumerated() {
      done += transaction.rows
      let rest = try database.tables(resume: whole.positions[index], mappings: mappings)
      let expected = Array(whole.rows[done...])
      // Rows that the order does not tell apart may come twice; nothing else may, and nothing may be left out.
      #expect(rest.rows.count - expected.count <= (isTracked ? 700 : 1), "after \(index)")
      #expect(
        Set(rest.rows.map { $0[0].bytes }).isSuperset(of: expected.map { $0[0].bytes }), "after \(index)")
    }
    // Rows that have moved have no places any more.
    try database.sql("VACUUM FULL outbox")
    let again = try database.tables(resume: whole.positions[0], mappings: mappings)
    #expect(again.rows.count == 6000)
  }

  @Test func rangesOfTransactionsAndSnapshots() throws {
    let database = try LiveDatabase(try Self.server.get())
    func insert(_ id: String) throws -> UInt64 {
      UInt64(
        try database.sql(
          """
          BEGIN; INSERT INTO outbox (aggregatetype, aggregateid, type) VALUES ('a', '\(id)', 't');
          SELECT pg_current_xact_id(); COMMIT
          """)) ?? 0
    }
    func ids(_ change: (inout TableRange) -> Void) throws -> [String] {
      var range = TableRange()
      change(&range)
      return try database.tables(range).rows.map { String(decoding: $0[2].bytes, as: UTF8.self) }
    }
    _ = try insert("1")
    let second = try insert("2")
    let third = try insert("3")
    #expect(try ids { _ in } == ["1", "2", "3"])
    #expect(try ids { $0.lowestTransaction = second } == ["2", "3"])
    // What lies above a bound may be a row of below it that was updated: without a proof nothing is left out.
    #expect(try ids { $0.endTransaction = third } == ["1", "2", "3"])
    #expect(try ids { $0.visibleIn = "\(second):\(third + 1):\(second)" } == ["1", "2", "3"])
    #expect(
      try ids {
        $0.visibleIn = "\(third):\(third):"
        $0.lowestTransaction = second
      } == ["2", "3"])
    try database.sql("UPDATE outbox SET created_at = '2001-01-01' WHERE aggregateid = '1'")
    #expect(try ids { $0.since = postgresNow() - 3_600_000_000 } == ["2", "3"])
    // An id of an earlier round of four billion gets its upper half from the newest.
    let next = (3 << 32) + 100 as UInt64
    func full(_ id: Int) throws -> String {
      try database.sql("SELECT \(TableQuery.fullTransaction("\(id)::bigint", next: next))")
    }
    #expect(try full(99) == "\((3 << 32) + 99)")
    #expect(try full(100) == "\((2 << 32) + 100)")
  }

  @Test func aRoleThatMayNotReadIsToldTheGrant() throws {
    let database = try LiveDatabase(try Self.server.get())
    try database.sql("REVOKE SELECT ON outbox FROM outboxd")
    do throws(RelayError) {
      _ = try PostgresSource.openTables(
        TableRange(), resume: nil, settings: database.settings, mappings: database.mappings,
        stop: database.stop,
        log: database.log)
      Issue.record("read")
    } catch {
      #expect(error.kind == .sourceDenied)
      #expect(error.remedy?.contains("GRANT SELECT ON \"public\".\"outbox\" TO \"outboxd\"") == true)
    }
  }

  @Test func placesAreWrittenAndReadAgain() {
    let place = TablePlace(commitTime: .min, second: -5)
    let text = place.text(table: "odd schema.a table", storage: "abc", horizon: 9)
    #expect(
      TablePlace.parse(text) == .init(table: "odd schema.a table", storage: "abc", horizon: 9, place: place))
    for bad in [
      "", "3", "2 9 abc - - 1 2 3 4 t", "3 9 abc x - t", "3 9 abc - x t", "3 abc - - t",
    ] {
      #expect(TablePlace.parse(bad) == nil)
    }
  }

  @Test func placesOfSettledTransactionsAreForgotten() {
    var places = TablePlaces(start: "start")
    for number in 1...5000 {
      places.append(
        LSN(UInt64(number)), 0,
        TablePlace(commitTime: nil, second: Int64(number)))
    }
    func position(_ number: UInt64) -> String? { places.position(after: LSN(number)) { "\($1.second ?? 0)" } }
    #expect(position(0) == "start")
    #expect(position(1) == "1")
    places.forget(before: LSN(4000))
    #expect(position(4000) == "4000")
    #expect(position(4999) == "4999")
    #expect(position(9000) == "5000")
  }
}
