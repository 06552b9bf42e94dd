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
      "role \"\(role.name)\" reads the tables and has \(role.powers.joined(separator: ", ")): what the owner of a table "
        + "makes Postgres run at a read would run with that",
      settings.readConninfo == nil
        ? "Set postgres.read_conninfo to a role that has LOGIN and SELECT on the outboxes only, and run outboxd init again."
        : "Name a role in postgres.read_conninfo that has LOGIN and SELECT on the outboxes only.")
  }

  private static func views(_ role: ReadingRole, _ facts: ServerFacts) -> Finding {
    if role.refusesViews {
      return ok("the server refuses views in the place of tables while it plans a read")
    }
    return warning(
      "server \(PostgresSource.version(facts.serverVersion)) lacks restrict_nonsystem_relation_kind (CVE-2024-7348): a view "
        + "that takes a table's place in the moment of a read is run",
      "Upgrade to 15.8, 16.4, 17.0 or later.")
  }

  private static func table(_ name: String, _ role: ReadingRole) -> Finding {
    guard let fault = role.faults[name] else {
      return ok("\(name) can be read, and to plan that runs no code that role \"\(role.name)\" has to fear")
    }
    return warning("\(name) cannot be read: \(fault.message)", fault.remedy ?? "See the lines above.")
  }
}
