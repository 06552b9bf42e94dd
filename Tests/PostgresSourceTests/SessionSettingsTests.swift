// Owns: that no setting of a role or a database reaches what outboxd reads, and what a time without zone means.
import Foundation
import RelayCore
import RelayTesting
import Testing

@testable import PostgresSource

private let ends = [PostgresServer.versions.first, PostgresServer.versions.last].compactMap(\.self)

@Suite(.serialized) struct SessionSettingsTests {
  static let servers = Dictionary(
    uniqueKeysWithValues: ends.map { version in (version, Result { try PostgresServer(version: version) }) })

  static func database(_ version: Int) throws -> LiveDatabase {
    let database = try LiveDatabase(try #require(servers[version]).get())
    for setting in [
      "DateStyle = 'SQL, DMY'", "TimeZone = 'America/New_York'", "IntervalStyle = 'iso_8601'",
      "extra_float_digits = -10", "bytea_output = 'escape'", "xmlbinary = 'hex'",
      "quote_all_identifiers = on",
      "search_path = 'public'", "client_min_messages = 'debug1'", "lc_messages = 'C'",
    ] {
      try database.sql("ALTER ROLE outboxd IN DATABASE \(database.name) SET \(setting)")
    }
    return database
  }

  @Test(arguments: ends) func `settings of the role do not reach a session, of SQL or of replication`(
    version: Int
  )
    throws
  {
    let database = try Self.database(version)
    for connection in [
      try SQLConnection(database.settings, stop: database.stop),
      try ReplicationConnection(database.settings, stop: database.stop).sql,
    ] {
      let row = try connection.query(
        """
        SELECT timestamptz '2026-11-28 10:00:00+00' AS time, interval '1 day 2 hours' AS span, 0.1::float8 AS number,
          '\\x00ff'::bytea AS bytes, quote_ident('a') AS name, current_setting('search_path') AS path
        """)
      #expect(row[0, "time"] == "2026-11-28 10:00:00+00")
      #expect(row[0, "span"] == "1 day 02:00:00")
      #expect(row[0, "number"] == "0.1")
      #expect(row[0, "bytes"] == "\\x00ff")
      #expect(row[0, "name"] == "a")
      #expect(row[0, "path"] == "pg_catalog, pg_temp")
    }
  }

  @Test(arguments: ends) func `a value that comes as text is the same whatever the role's settings`(
    version: Int
  ) throws {
    let database = try Self.database(version)
    // A type without a binary form comes as text.
    try database.sql(
      """
      ALTER TABLE outbox ADD COLUMN x aclitem, ADD COLUMN f float8
      """)
    try database.createSlot()
    try database.sql(
      """
      INSERT INTO outbox (aggregatetype, aggregateid, type, payload, x, f)
      VALUES ('a', 'b', 't', '{}', 'postgres=r/postgres', 0.1)
      """)
    let stream = try database.open()
    var texts: [String] = []
    let deadline = MonotonicTime.now().advanced(milliseconds: 20_000)
    while texts.isEmpty, MonotonicTime.now() < deadline {
      guard let change = try stream.step(.zero, until: deadline), case .insert(let row) = change else {
        continue
      }
      texts = row.values.filter { $0.format == .text }.map { String(decoding: $0.bytes, as: UTF8.self) }
    }
    #expect(texts == ["postgres=r/postgres"])
  }

  @Test(arguments: ends) func `the facts name the zone that the role's sessions have`(version: Int) throws {
    let database = try Self.database(version)
    try database.sql("ALTER TABLE outbox ALTER COLUMN created_at TYPE timestamp")
    let facts = try PostgresSource.inspect(
      settings: database.settings, mappings: database.mappings, stop: database.stop)
    #expect(facts.timeZone == "America/New_York")
    let findings = StartDecision(facts: facts, settings: database.settings, mappings: database.mappings)
      .findings
    let finding = try #require(findings.first { $0.message.contains("without time zone") })
    #expect(finding.message.contains("\"created_at\" of public.outbox"))
    #expect(finding.message.contains("America/New_York"))
    #expect(finding.remedy?.contains("columns.time_zone") == true)
    database.mappings[0].columns.timeZone = .utc
    let declared = StartDecision(facts: facts, settings: database.settings, mappings: database.mappings)
      .findings
    #expect(!declared.contains { $0.message.contains("without time zone") })
  }
}

@Suite struct ColumnAdviceTests {
  private func advice(_ columns: [(String, ColumnType)], _ change: (inout OutboxMapping) -> Void = { _ in })
    -> ColumnAdvice
  {
    var mapping = OutboxMapping()
    change(&mapping)
    let relation = Relation(
      id: 1, schema: "public", table: "outbox",
      columns: columns.map { Relation.Column(name: $0.0, type: $0.1) })
    return ColumnAdvice(mapping: mapping, relation: relation, timeZone: "Europe/Berlin")
  }

  @Test func `a time column that is not used is told, unless that was said`() {
    for type in [ColumnType.date, .text, .int8] {
      let findings = advice([("created_at", type)]).findings
      #expect(findings.count == 1)
      #expect(findings.first?.message.contains("\"created_at\"") == true)
      #expect(findings.first?.remedy?.contains("columns.time: none") == true)
      #expect(advice([("created_at", type)]) { $0.columns.time = "none" }.findings.isEmpty)
      #expect(
        advice([("created_at", type), ("at", .timestamptz)]) { $0.columns.time = "at" }.findings.isEmpty)
    }
    #expect(advice([("created_at", .timestamptz)]).findings.isEmpty)
    #expect(advice([]).findings.isEmpty)
  }

  @Test func `a headers column that is not used is told, unless that was said`() {
    #expect(advice([("headers", .bytea)]).findings.count == 1)
    #expect(advice([("headers", .bytea)]) { $0.columns.headers = "none" }.findings.isEmpty)
    #expect(advice([("headers", .jsonb)]).findings.isEmpty)
  }

  @Test func `rows without a zone are not selected by a moment`() {
    let fault = advice([("created_at", .timestamp)]).sinceFault
    #expect(fault?.kind == .configurationInvalid)
    #expect(fault?.remedy?.contains("Europe/Berlin") == true)
    #expect(advice([("at", .timestamp)]) { $0.columns.time = "at" }.sinceFault != nil)
    #expect(advice([("created_at", .timestamp)]) { $0.columns.timeZone = .utc }.sinceFault == nil)
    #expect(advice([("created_at", .timestamp)]) { $0.columns.time = "none" }.sinceFault == nil)
    #expect(advice([("created_at", .timestamptz)]).sinceFault == nil)
  }
}
