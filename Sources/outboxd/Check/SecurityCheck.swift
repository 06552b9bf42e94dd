// Owns: the section "security" of `outboxd check`: a line for each thing that was examined.
// Must not know: catalog queries, librdkafka, how a line is printed.
import KafkaSink
import PostgresSource
import RelayCore

enum SecurityCheck {
  /// - Parameters:
  ///   - file: the configuration file that was read; nil: none.
  ///   - facts: nil where the server cannot be examined.
  static func findings(_ configuration: Configuration, file: String?, facts: ServerFacts?) -> [Finding] {
    let known = kafka(configuration) + topics(configuration)
    guard let facts else {
      return known + [
        warning("the database was not examined, because it cannot be reached", "See the line postgres above.")
      ]
    }
    return known + (facts.transport.map { [postgres($0)] } ?? []) + (facts.role.map { [role($0)] } ?? [])
      + journal(facts.journalTrust) + publication(facts, configuration.postgres.publication)
      + tables(configuration, facts)
  }

  static func ok(_ message: String) -> Finding {
    Finding(level: .ok, subject: "security", message: message)
  }

  static func warning(_ message: String, _ remedy: String) -> Finding {
    Finding(level: .warning, subject: "security", message: message, remedy: remedy)
  }

  private static func role(_ role: RoleFacts) -> Finding {
    guard !role.excess.isEmpty else {
      return ok("role \"\(role.name)\" may stream, and has only the rights that outboxd needs")
    }
    return warning(
      "role \"\(role.name)\" has more than outboxd needs: \(role.excess.joined(separator: ", "))",
      "Connect as a separate role with LOGIN and REPLICATION, and with the grants that outboxd init prints."
    )
  }
}
