// Owns: the lines of the section "security" on what is outboxd's own in the database: journal and publication.
// Must not know: catalog queries, how a line is printed.
import PostgresSource
import RelayCore

extension SecurityCheck {
  static func journal(_ trust: JournalTrust?) -> [Finding] {
    guard let trust else {
      return [ok("postgres.journal is off: the schema outboxd is not used, and not examined")]
    }
    if let fault = trust.fault {
      return [Finding(level: .error, subject: "security", message: fault, remedy: trust.remedy)]
    }
    guard !trust.writers.isEmpty else {
      return [
        ok("the journal belongs to trusted roles, runs no foreign code, and no other role may write to it")
      ]
    }
    let names = trust.writers.prefix(3).map { "\"\($0)\"" }.joined(separator: ", ")
    let more = trust.writers.count > 3 ? " and \(trust.writers.count - 3) more" : ""
    return [
      warning(
        "tables of the schema outboxd may be written to by \(names)\(more), who could move the checkpoint",
        "REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA outboxd FROM ...;")
    ]
  }

  static func publication(_ facts: ServerFacts, _ name: String) -> [Finding] {
    guard let publication = facts.publication else {
      return [ok("publication \"\(name)\" does not exist yet")]
    }
    guard let finding = publication.ownerFinding(of: name) else {
      return [
        ok("publication \"\(name)\" belongs to role \"\(publication.owner)\", which is trusted")
      ]
    }
    return [
      Finding(level: .error, subject: "security", message: finding.message, remedy: finding.remedy)
    ]
  }
}
