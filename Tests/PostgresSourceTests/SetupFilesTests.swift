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

  @Test func `the files of the default names say the same as outboxd init`() throws {
    var mapping = OutboxMapping()
    mapping.schema = "public"
    let setup = SetupSQL.statements(settings: PostgresSettings(), mappings: [mapping], role: "outboxd")
    func texts(_ list: [SetupStatement]) -> [String] {
      list.flatMap { statements($0.sql.replacingOccurrences(of: "\"", with: "")) }
    }
    let files = [
      "03_role": [setup[1]], "04_publication": [setup[2]], "05_journal": [setup[3]],
      "06_grants": setup.filter { $0.sql.hasPrefix("GRANT") }, "07_slot": [setup[0]] + setup.suffix(1),
    ]
    for (file, expected) in files {
      let text = try String(contentsOfFile: "\(TestTools.repository)/sql/\(file).sql", encoding: .utf8)
        .replacingOccurrences(of: "\"", with: "")
      #expect(statements(text) == statements(SetupSQL.preamble) + texts(expected), "\(file)")
    }
  }

  @Test(arguments: ["01_outbox", "02_outbox_partitioned"])
  func `no object of another schema takes the place of the system's in the files for the table`(
    file: String
  ) throws {
    let text = try String(contentsOfFile: "\(TestTools.repository)/sql/\(file).sql", encoding: .utf8)
    let preamble = statements(SetupSQL.preamble)
    #expect(Array(statements(text).prefix(preamble.count)) == preamble)
  }
}
