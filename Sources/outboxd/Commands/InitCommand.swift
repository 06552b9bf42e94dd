// Owns: `outboxd init`: the SQL that the database needs, printed or run.
// Must not know: the statements.
import PostgresSource
import RelayCore

enum InitCommand {
  static func run(_ invocation: Invocation) throws(RelayError) -> Int32 {
    let configuration = try invocation.loadConfiguration().configuration
    let settings = configuration.postgres
    var role = invocation.value("role")
    if role == nil { role = try conninfoUser(settings.conninfo) }
    guard let role else {
      throw invocation.usage("the conninfo names no user: name the role of outboxd with --role")
    }
    let statements = SetupSQL.statements(settings: settings, mappings: configuration.outboxes, role: role)
    guard invocation.isSet("apply") else {
      Terminal.printOutput(script(statements))
      return 0
    }
    var administrator = settings
    if let conninfo = invocation.value("as") {
      administrator.conninfo = conninfo
      administrator.passwordFile = nil
    }
    let connection = try SQLConnection(administrator, applicationName: "outboxd init", stop: StopSignal())
    for statement in statements {
      do throws(RelayError) {
        try connection.query(statement.sql, timeout: nil)
      } catch {
        Terminal.printOutput("failed  \(statement.comment)\n")
        throw failure(error, statement)
      }
      Terminal.printOutput("done    \(statement.comment)\n")
    }
    return 0
  }

  private static func script(_ statements: [SetupStatement]) -> String {
    "-- What outboxd needs, for psql, as a role that may create it. Running it again changes nothing.\n"
      + statements.map { "\n-- \($0.comment)\n\($0.sql)\n" }.joined()
  }

  private static func failure(_ error: RelayError, _ statement: SetupStatement) -> RelayError {
    var error = error
    error.message = "\(error.message), in: \(statement.sql.split(separator: "\n").joined(separator: " "))"
    error.remedy =
      error.remedy
      ?? "Run it as the owner of the outbox tables or a superuser: outboxd init --apply --as CONNINFO, or "
      + "hand what outboxd init prints to the DBA. Running it again is safe."
    return error
  }
}
