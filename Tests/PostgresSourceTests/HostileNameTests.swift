// Owns: that no name leaves its quotes or its comment in the SQL that is printed, as psql reads it.
import Foundation
import RelayCore
import RelayTesting
import Testing

@testable import PostgresSource

private let ends = [PostgresServer.versions.first, PostgresServer.versions.last].compactMap(\.self)

@Suite(.serialized) struct HostileNameTests {
  /// Each would do harm where it got out.
  private static func names(_ file: String) -> [String] {
    [
      "o\nDROP TABLE victim;--", "o\r\\! touch \(file)", "o\n\\! touch \(file)",
      "o\u{2028}DROP TABLE victim;", ":x", ":'x'",
      ":\"x\"", "a\"; DROP TABLE victim;--", "a'; DROP TABLE victim;--", "a\\'; DROP TABLE victim;--",
      "a$outboxd$; DROP TABLE victim;--",
      // One character with what is before it in Swift, none in Postgres.
      "a$outboxd$\u{301}; DROP TABLE victim;--", "a\\\u{301}'; DROP TABLE victim;--",
      "*/ DROP TABLE victim; /*",
      "%I %s % ;", "\u{202E}elbat",
    ]
  }

  @Test(arguments: ends) func `psql makes and removes a relay of hostile names, and nothing else`(
    version: Int
  ) throws {
    let database = try LiveDatabase(try PostgresServer(version: version), files: [])
    let file = "/tmp/hostile-\(UInt32.random(in: 0...UInt32.max))"
    try database.sql("CREATE TABLE victim ()")
    let names = Self.names(file)
    let mappings = names.map { OutboxMapping(schema: $0, table: $0) }
    // Each script by a psql of its own would take half a minute.
    var script = "\\set x 'DROP TABLE victim;'\n"
    for name in names {
      script +=
        "CREATE SCHEMA \(SQLText.identifier(name)); CREATE TABLE \(SQLText.qualified(name, name)) (id int);\n"
    }
    for (number, name) in names.enumerated() {
      database.settings.publication = name
      database.settings.slot = "slot\(number)"
      let role = String(name.prefix(50)) + "r"
      let made = SetupSQL.statements(
        settings: database.settings, mappings: number == 0 ? mappings : [mappings[number]], role: role)
      let removed = TeardownSQL.statements(
        settings: database.settings, mappings: [mappings[number]], role: role)
      script += made.script + (number == 0 ? made.script : "") + removed.script
    }
    for line in script.split(whereSeparator: \.isNewline) where line.hasPrefix("--") {
      #expect(!line.unicodeScalars.contains { $0.value < 0x20 || $0.value == 0x202E }, "\(line)")
    }
    try database.sql(script)
    #expect(try database.sql("SELECT count(*) FROM pg_class WHERE relname = 'victim'") == "1")
    #expect(!FileManager.default.fileExists(atPath: file))
    #expect(try database.sql("SELECT count(*) FROM pg_replication_slots") == "0")
  }
}
