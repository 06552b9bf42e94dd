// Owns: the lines of the section "security" about the reads of tables.
// Must not know: catalog queries, how a line is printed.
import PostgresSource
import RelayCore

extension SecurityCheck {
  static func tables(_ configuration: Configuration, _ facts: ServerFacts) -> [Finding] {
    let settings = configuration.postgres
    let role: ReadingRole
    do throws(RelayError) {
      role = try ReadingRole.examine(
        facts, settings: settings, mappings: configuration.outboxes, stop: StopSignal())
    } catch {
      return [
        Finding(
          level: .error, subject: "security",
          message: "the role that reads the tables was not examined: \(error.message)", remedy: error.remedy)
      ]
    }
    let transport = settings.readConninfo == nil ? [] : [postgres(role.transport)]
    return transport + [reader(role, settings), views(role, facts)]
      + configuration.outboxes.map { table($0.qualifiedName, role) }
  }

  private static func reader(_ role: ReadingRole, _ settings: PostgresSettings) -> Finding {
    guard !role.powers.isEmpty else {
      return ok("role \"\(role.name)\" reads the tables, and has no right beyond its grants")
    }
    return warning(
      "role \"\(role.name)\" reads the tables and has \(role.powers.joined(separator: ", ")): code that a table's owner "
        + "attaches to the table would run with those rights",
      settings.readConninfo == nil
        ? "Set postgres.read_conninfo to a role that has LOGIN and SELECT on the outboxes only, and run outboxd init again."
        : "Name a role in postgres.read_conninfo that has LOGIN and SELECT on the outboxes only.")
  }

  private static func views(_ role: ReadingRole, _ facts: ServerFacts) -> Finding {
    if role.refusesViews {
      return ok("the server refuses a view that takes a table's place during a read")
    }
    return warning(
      "server \(PostgresSource.version(facts.serverVersion)) lacks restrict_nonsystem_relation_kind (CVE-2024-7348): the server "
        + "runs a view that takes a table's place during a read",
      "Upgrade to 15.8, 16.4, 17.0 or later.")
  }

  private static func table(_ name: String, _ role: ReadingRole) -> Finding {
    guard let fault = role.faults[name] else {
      return ok(
        "\(name) can be read, and planning the read runs no code that is dangerous to role \"\(role.name)\"")
    }
    return warning("\(name) cannot be read: \(fault.message)", fault.remedy ?? "See the lines above.")
  }
}
