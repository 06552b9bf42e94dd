// Owns: that a DBA who runs the files in sql/ gets what `outboxd init` makes.
import Foundation
import RelayCore
import RelayTesting
import Testing

@testable import PostgresSource

@Suite struct SetupFilesTests {
  private func statements(_ text: String) -> [String] {
    text.split(separator: "\n").map { line in
      line.range(of: "--").map { String(line[..<$0.lowerBound]) } ?? String(line)
    }
    .joined(separator: " ").split(separator: ";").map { statement in
      statement.split(whereSeparator: \.isWhitespace).joined(separator: " ")
        .replacingOccurrences(of: "( ", with: "(").replacingOccurrences(of: " )", with: ")")
    }
    .filter { !$0.isEmpty }
  }

  @Test(arguments: ["04_publication.sql", "05_journal.sql", "06_grants.sql", "07_slot.sql"])
  func `the files of the default names say the same as outboxd init`(file: String) throws {
    let text = try String(contentsOfFile: "\(TestTools.repository)/sql/\(file)", encoding: .utf8)
      .replacingOccurrences(of: "\"", with: "")
    var mapping = OutboxMapping()
    mapping.schema = "public"
    let setup = SetupSQL.statements(settings: PostgresSettings(), mappings: [mapping], role: "outboxd")
      .flatMap { statements($0.sql.replacingOccurrences(of: "\"", with: "")) }
    for statement in statements(text) {
      #expect(setup.contains(statement), "\(statement)\nis not among\n\(setup.joined(separator: "\n"))")
    }
    let kinds = ["05": ["CREATE SCHEMA", "CREATE TABLE", "ALTER TABLE"], "06": ["GRANT"]]
    guard let kind = kinds[String(file.prefix(2))] else { return }
    func ofKind(_ list: [String]) -> Set<String> {
      Set(list.filter { statement in kind.contains { statement.hasPrefix($0) } })
    }
    #expect(ofKind(setup) == ofKind(statements(text)))
  }
}
