// Owns: tables that are replaced, swapped, renamed, moved and detached on a real server: what is a gap, what is read.
import Foundation
import RelayCore
import RelayTesting
import Synchronization
import Testing

@testable import PostgresSource

private let ends = [PostgresServer.versions.first, PostgresServer.versions.last].compactMap(\.self)

private let deadline = MonotonicTime.now().advanced(milliseconds: 600_000)

@Suite(.serialized) struct TableIdentityTests {
  private static let servers = Mutex<[Int: PostgresServer]>([:])

  private func database(_ version: Int, partitioned: Bool = false) throws -> LiveDatabase {
    let server = try Self.servers.withLock { servers in
      let server =
        try servers[version] ?? PostgresServer(version: version, settings: ["max_replication_slots": "40"])
      servers[version] = server
      return server
    }
    return try LiveDatabase(server, files: [partitioned ? "02" : "01", "03", "04", "05", "06"])
  }

  private func insert(
    _ database: LiveDatabase, _ ids: String..., into table: String = "outbox", at: String = "now()"
  ) throws {
    for id in ids {
      try database.sql(
        "INSERT INTO \(table) (aggregatetype, aggregateid, type, created_at) VALUES ('a', '\(id)', 't', \(at))"
      )
    }
  }

  /// A relay that has run and stopped: the journal knows the tables of now.
  private func run(
    _ database: LiveDatabase, _ body: (ReplicationStream, JournalKeeper) throws -> Void = { _, _ in }
  ) throws {
    let keeper = try database.keeper(publicationInterval: 100)
    let stream = try database.open(keeper)
    try body(stream, keeper)
    stream.finish(flushed: stream.startLSN, deadline: MonotonicTime.now().advanced(milliseconds: 5_000))
    keeper.stop()
    try eventually("the slot is free", within: 20) {
      try database.sql(
        "SELECT active FROM pg_replication_slots WHERE slot_name = '\(database.settings.slot)'") == "f"
    }
  }

  /// What a stream sends: the ids, and the names that their table had then.
  private func stream(_ database: LiveDatabase, rows count: Int) throws -> (ids: [String], tables: [String]) {
    var ids: [String] = []
    var tables: [String] = []
    try run(database) { stream, _ in
      let limit = MonotonicTime.now().advanced(milliseconds: 30_000)
      var isComplete = false
      while !isComplete, MonotonicTime.now() < limit {
        switch try stream.step(stream.startLSN, until: limit) {
        case .relation where stream.relation.outbox != nil:
          #expect(stream.relation.outbox == database.mappings[0])
          tables.append("\(stream.relation.schema).\(stream.relation.table)")
        case .insert(let row): ids.append(String(decoding: row.values[2].bytes, as: UTF8.self))
        case .commit: isComplete = ids.count >= count
        default: break
        }
      }
    }
    return (ids, tables)
  }

  private func plan(_ database: LiveDatabase) throws(RelayError) -> Recovery {
    try Recovery.plan(
      settings: database.settings, mappings: database.mappings, wish: .repair, stop: database.stop)
  }

  /// Recovers in one go, and returns the ids of the rows that are read.
  private func recover(_ database: LiveDatabase) throws -> (ids: Set<String>, sources: Set<String>) {
    let recovery = try plan(database)
    let cut = try recovery.cut(stop: database.stop, log: database.log)
    let source = try PostgresSource.openTables(
      recovery.range(before: cut), resume: nil, settings: database.settings, reads: recovery.reads,
      stop: database.stop, log: database.log)
    var ids: Set<String> = []
    var sources: Set<String> = []
    while !source.isAtEnd {
      switch try source.next() {
      case .insert(let row):
        let column = source.relation.columns.firstIndex { $0.name == "aggregateid" } ?? 0
        ids.insert(String(decoding: row.values[column].bytes, as: UTF8.self))
        sources.insert("\(source.relation.schema).\(source.relation.table)")
      case nil where !source.isAtEnd:
        _ = try SQLConnection.wait(source.descriptor, Int16(POLLIN), until: deadline, stop: nil)
        try source.report(flushed: .zero, now: .now())
      default: break
      }
    }
    try recovery.complete(cut, stop: database.stop)
    #expect(try plan(database).plan.action == .nothing)
    return (ids, sources)
  }

  @Test(arguments: ends)
  func `a table that was dropped and created again is a gap, and its rows are recovered`(
    version: Int
  ) throws {
    let database = try database(version)
    try run(database)
    try database.sql("DROP TABLE outbox")
    try database.sql(try LiveDatabase.file("01") + "GRANT SELECT ON public.outbox TO outboxd")
    try insert(database, "1", "2")
    let missing = try #require(database.refusal())
    #expect(
      missing.kind == .publicationUnsuitable && missing.remedy?.contains("ADD TABLE") == true, "\(missing)")
    try database.sql("ALTER PUBLICATION outboxd ADD TABLE outbox")
    try insert(database, "3")
    let gap = try #require(database.refusal())
    #expect(
      gap.kind == .publicationUnsuitable && gap.message.contains("the former one was dropped"), "\(gap)")
    #expect(gap.remedy?.hasPrefix("outboxd recover") == true)
    #expect(try recover(database).ids == ["1", "2", "3"])
    #expect(try stream(database, rows: 1).ids == ["3"])
  }

  @Test(arguments: ends)
  func `a swap that the publication follows later is a gap, and both tables are recovered`(
    version: Int
  ) throws {
    let database = try database(version)
    try run(database) { stream, _ in
      try database.sql(
        """
        BEGIN; CREATE TABLE outbox_new (LIKE outbox INCLUDING ALL); ALTER TABLE outbox RENAME TO outbox_old;
        ALTER TABLE outbox_new RENAME TO outbox; GRANT SELECT ON outbox TO outboxd; COMMIT
        """)
      try insert(database, "left out")
      try database.sql("ALTER PUBLICATION outboxd SET TABLE outbox")
      let fault = try #require(stream.failure(flushed: stream.startLSN))
      #expect(fault.kind == .publicationUnsuitable, "\(fault)")
      if fault.message.contains("while outboxd ran") {
        let parts = fault.message.split(separator: " ")
        let places = parts.compactMap { LSN(String($0)) }
        #expect(places.count == 2 && places[0] < places[1], "\(fault)")
      }
    }
    try insert(database, "in the old one", into: "outbox_old")
    let recovery = try plan(database)
    #expect(
      recovery.tables == [
        RecoveredTable(name: "public.outbox_old", outbox: "public.outbox"),
        RecoveredTable(name: "public.outbox"),
      ])
    let read = try recover(database)
    #expect(read.ids == ["left out", "in the old one"])
    // The events of the old table keep the source that they had.
    #expect(read.sources == ["public.outbox"])
  }

  @Test(arguments: ends) func `a swap in one transaction with the publication is silent and loses nothing`(
    version: Int
  ) throws {
    let database = try database(version)
    let swap = """
      BEGIN; CREATE TABLE outbox_new (LIKE outbox INCLUDING ALL); ALTER TABLE outbox RENAME TO outbox_NUMBER;
      ALTER TABLE outbox_new RENAME TO outbox; GRANT SELECT ON outbox TO outboxd;
      ALTER PUBLICATION outboxd SET TABLE outbox; COMMIT
      """
    try run(database) { stream, _ in
      try insert(database, "1")
      try database.sql(swap.replacingOccurrences(of: "NUMBER", with: "1"))
      try insert(database, "2")
      _ = try stream.read(rows: 2)
    }
    // The former one stays on record: its rows are undelivered still.
    #expect(try database.sql("SELECT publication FROM outboxd.checkpoint").contains(" -"))
    // The watch had made the new one known.
    try insert(database, "3")
    try database.sql(swap.replacingOccurrences(of: "NUMBER", with: "2"))
    try insert(database, "4")
    #expect(database.refusal() == nil)
    #expect(try stream(database, rows: 4).ids == ["1", "2", "3", "4"])
    // With the slot gone the tables have them all, also those of two swaps before.
    try database.sql("SELECT pg_drop_replication_slot('\(database.settings.slot)')")
    #expect(try recover(database).ids == ["1", "2", "3", "4"])
  }

  @Test(arguments: ends) func `a table that was renamed or moved goes on where the configuration follows`(
    version: Int
  ) throws {
    let database = try database(version)
    try run(database)
    try insert(database, "1")
    try database.sql("ALTER TABLE outbox RENAME TO outbox_events; CREATE SCHEMA sales; CREATE SCHEMA old")
    try insert(database, "2", into: "outbox_events")
    let renamed = try #require(database.refusal())
    #expect(renamed.kind == .tableUnsuitable)
    #expect(renamed.message == "table public.outbox was renamed to public.outbox_events")
    try database.sql("ALTER TABLE outbox_events SET SCHEMA sales")
    try insert(database, "3", into: "sales.outbox_events")
    try database.sql("ALTER SCHEMA sales RENAME TO shop")
    try insert(database, "4", into: "shop.outbox_events")
    #expect(database.refusal()?.message == "table public.outbox was renamed to shop.outbox_events")
    database.mappings = [OutboxMapping(schema: "shop", table: "outbox_events")]
    #expect(try plan(database).plan.action == .nothing)
    let streamed = try stream(database, rows: 4)
    #expect(streamed.ids == ["1", "2", "3", "4"])
    // Postgres 15 does not announce a table again whose schema was renamed.
    let names = ["public.outbox", "public.outbox_events", "sales.outbox_events", "shop.outbox_events"]
    #expect(streamed.tables == Array(names.prefix(version < 16 ? 3 : 4)))
    #expect(database.refusal() == nil)
  }

  @Test(arguments: ends) func `a table that is renamed while the relay runs halts it with both names`(
    version: Int
  ) throws {
    let database = try database(version)
    try run(database) { stream, _ in
      try database.sql("ALTER TABLE outbox RENAME TO outbox_events")
      let fault = try #require(stream.failure(flushed: stream.startLSN))
      #expect(fault.message == "table public.outbox was renamed to public.outbox_events")
      #expect(fault.remedy?.contains("ALTER TABLE \"public\".\"outbox_events\" RENAME TO \"outbox\"") == true)
    }
    // As the remedy says.
    try insert(database, "1", into: "outbox_events")
    try database.sql("ALTER TABLE \"public\".\"outbox_events\" RENAME TO \"outbox\"")
    #expect(try stream(database, rows: 1).ids == ["1"])
  }

  @Test(arguments: ends) func `rows of a partition that was detached before a recovery are recovered`(
    version: Int
  ) throws {
    let database = try database(version, partitioned: true)
    try database.sql("CREATE TABLE part PARTITION OF outbox FOR VALUES FROM ('2020-01-01') TO ('2021-01-01')")
    try run(database)
    try insert(database, "1", "2", at: "'2020-06-01'")
    try insert(database, "3")
    try database.sql(
      "ALTER TABLE outbox DETACH PARTITION part; SELECT pg_drop_replication_slot('\(database.name)')")
    do throws(RelayError) {
      _ = try plan(database)
      Issue.record("the role may read a partition that it has no right on")
    } catch {
      #expect(
        error.kind == .sourceDenied && error.remedy?.contains("\"public\".\"part\"") == true, "\(error)")
    }
    try database.sql("GRANT SELECT ON part TO outboxd")
    let read = try recover(database)
    #expect(read.ids == ["1", "2", "3"])
    #expect(read.sources == ["public.outbox"])
  }

  /// Nobody was there to see the partition come or go but the watch.
  @Test func `a partition that comes while the relay runs is on record`() throws {
    let database = try database(try #require(ends.last), partitioned: true)
    try run(database) { stream, _ in
      try database.sql(
        "CREATE TABLE part PARTITION OF outbox FOR VALUES FROM ('2020-01-01') TO ('2021-01-01')")
      let oid = try database.sql("SELECT 'part'::regclass::oid")
      try eventually("the partition is on record", within: 20) {
        try stream.step(stream.startLSN, until: .now())
        return try database.sql("SELECT publication FROM outboxd.checkpoint").contains(oid)
      }
    }
  }

  @Test(arguments: ends) func `a table that becomes a partition of its successor is no gap, and is read once`(
    version: Int
  ) throws {
    let database = try database(version)
    try run(database)
    try insert(database, "1")
    try database.sql(
      """
      BEGIN; ALTER TABLE outbox DROP CONSTRAINT outbox_pkey; ALTER TABLE outbox RENAME TO outbox_first;
      CREATE TABLE outbox (LIKE outbox_first INCLUDING DEFAULTS) PARTITION BY RANGE (created_at);
      ALTER TABLE outbox ATTACH PARTITION outbox_first FOR VALUES FROM (MINVALUE) TO ('3000-01-01');
      GRANT SELECT ON outbox TO outboxd; ALTER PUBLICATION outboxd SET TABLE outbox; COMMIT
      """)
    try insert(database, "2")
    #expect(try stream(database, rows: 2).ids == ["1", "2"])
    try database.sql("SELECT pg_drop_replication_slot('\(database.settings.slot)')")
    #expect(try plan(database).tables == [RecoveredTable(name: "public.outbox")])
    #expect(try recover(database).ids == ["1", "2"])
  }

  @Test(arguments: ends) func `a table that is published with its schema may be created again`(version: Int)
    throws
  {
    let database = try database(version)
    try database.sql("CREATE SCHEMA sales; GRANT USAGE ON SCHEMA sales TO outboxd")
    try database.sql(
      "ALTER TABLE outbox SET SCHEMA sales; ALTER PUBLICATION outboxd SET TABLES IN SCHEMA sales")
    database.mappings = [OutboxMapping(schema: "sales", table: "outbox")]
    try run(database)
    try insert(database, "1", into: "sales.outbox")
    try database.sql("CREATE TABLE sales.new (LIKE sales.outbox INCLUDING ALL); DROP TABLE sales.outbox")
    try database.sql("ALTER TABLE sales.new RENAME TO outbox")
    try insert(database, "2", into: "sales.outbox")
    #expect(try stream(database, rows: 2).ids == ["1", "2"])
  }

  @Test func `a table that is swapped away while a recovery runs ends it`() throws {
    let database = try database(try #require(ends.last))
    try run(database)
    try insert(database, "1")
    try database.sql("SELECT pg_drop_replication_slot('\(database.settings.slot)')")
    let connection = try SQLConnection(database.settings, stop: database.stop)
    let shape = try TableCatalog(connection: connection, settings: database.settings, publication: nil)
      .shape(OutboxMapping())
    #expect(try connection.query(shape.check)[0, "same"] == "t")
    try database.sql(
      "ALTER TABLE outbox RENAME TO outbox_old; CREATE TABLE outbox (LIKE outbox_old INCLUDING ALL)")
    #expect(try connection.query(shape.check)[0, "same"] == "f")
    // By its OID it is found all the same.
    try database.sql("GRANT SELECT ON outbox TO outboxd; ALTER PUBLICATION outboxd SET TABLE outbox")
    let reads = try plan(database).reads
    #expect(reads.first?.others == [shape.oid: TableName("public", "outbox")])
  }

  @Test func `a partition that is detached while its table is about to be read is not left out`() throws {
    let database = try database(try #require(ends.last), partitioned: true)
    try database.sql("CREATE TABLE part PARTITION OF outbox FOR VALUES FROM ('2020-01-01') TO ('2021-01-01')")
    let connection = try SQLConnection(database.settings, stop: database.stop)
    let shape = try TableCatalog(connection: connection, settings: database.settings, publication: nil)
      .shape(OutboxMapping())
    try database.sql("CREATE TABLE more PARTITION OF outbox FOR VALUES FROM ('2019-01-01') TO ('2020-01-01')")
    #expect(try connection.query(shape.check)[0, "same"] == "t")
    try database.sql("ALTER TABLE outbox DETACH PARTITION part")
    #expect(try connection.query(shape.check)[0, "same"] == "f")
    // What does not exist any more cannot be read.
    try database.sql("DROP TABLE part")
    #expect(try connection.query(shape.check)[0, "same"] == "t")
  }
}
