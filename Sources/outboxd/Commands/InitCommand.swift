// Owns: `outboxd init`: the SQL that the database needs, printed or run.
// Must not know: the statements.
import PostgresSource
import RelayCore

enum InitCommand {
  static func run(_ invocation: Invocation) throws(RelayError) -> Int32 {
    let configuration = try invocation.loadConfiguration().configuration
    let settings = configuration.postgres
    let (role, reader) = try roles(settings, invocation)
    if invocation.isSet("remove") {
      guard !invocation.isSet("apply") else {
        throw invocation.usage("--remove prints SQL to read and run: it takes no --apply")
      }
      Terminal.printOutput(
        "-- Removes this relay. Run it in psql after outboxd has stopped. It leaves alone what other relays use.\n"
          + TeardownSQL.statements(
            settings: settings, mappings: configuration.outboxes, role: role, reader: reader
          ).script)
      return 0
    }
    let statements = SetupSQL.statements(
      settings: settings, mappings: configuration.outboxes, role: role, reader: reader)
    guard invocation.isSet("apply") else {
      Terminal.printOutput(script(statements))
      return 0
    }
    let log = configuration.log.makeLog()
    let administrator = try administrator(invocation, log)
    return try Interruption.run(log: log) { (stop) throws(RelayError) in
      try apply(statements, settings: settings, role: role, administrator: administrator, stop: stop)
      return 0
    }
  }

  /// The role of outboxd, and the one that reads the tables; nil where that is the same.
  private static func roles(
    _ settings: PostgresSettings, _ invocation: Invocation
  ) throws(RelayError) -> (role: String, reader: String?) {
    var role = invocation.value("role")
    if role == nil { role = try conninfoUser(settings.conninfo) }
    guard let role else {
      throw invocation.usage("the conninfo names no user: name outboxd's role with --role")
    }
    var reader: String?
    if let conninfo = settings.readConninfo { reader = try conninfoUser(conninfo) }
    for (name, subject) in [(role, "outboxd"), (reader ?? role, "the reads")] {
      do throws(ValueFault) {
        try ConfigurationValues.checkName(name)
      } catch {
        throw invocation.usage("the role of \(subject): \(error.message)")
      }
    }
    return (role, reader)
  }

  /// The conninfo of `--as`.
  private static func administrator(_ invocation: Invocation, _ log: Log) throws(RelayError) -> String? {
    guard let administrator = invocation.value("as") else { return nil }
    if let problem = PostgresSettings.conninfoProblem(administrator, name: "--as") {
      throw RelayError(.configurationInvalid, problem.message, remedy: problem.suggestion)
    }
    if PostgresSettings.conninfoHasSecret(administrator) {
      let warning = ConfigurationNames.visibleSecret(.flag("--as"), use: "PGPASSFILE or ~/.pgpass")
      log.warning("configuration", ("warning", warning.description))
    }
    return administrator
  }

  private static func script(_ statements: [SetupStatement]) -> String {
    "-- Creates what outboxd needs. Run it in psql as a role that may create it. Running it again changes nothing.\n"
      + statements.script
  }

  // MARK: --apply

  /// Everything but the slot in one transaction, then the slot. Prints what came of each step once it lasts.
  private static func apply(
    _ statements: [SetupStatement], settings: PostgresSettings, role: String, administrator: String?,
    stop: StopSignal
  ) throws(RelayError) {
    var login = settings
    if let administrator {
      login.conninfo = administrator
      login.passwordFile = nil
    }
    login = try login.identified(stop: stop)
    let connection = try SQLConnection(login, applicationName: "outboxd init", stop: stop)
    try requireDatabase(of: settings, connection)
    var outcomes = ""
    try connection.query("BEGIN")
    for statement in statements where statement.isTransactional {
      do throws(RelayError) {
        outcomes += try perform(statement, connection)
      } catch {
        throw failure(error, statement, consequence: "nothing was changed")
      }
    }
    try connection.query("COMMIT", timeout: nil)
    Terminal.printOutput(outcomes)
    for statement in statements where !statement.isTransactional {
      do throws(RelayError) {
        Terminal.printOutput(
          try createSlot(statement, settings: settings, login: login, role: role, connection, stop))
      } catch {
        throw failure(error, statement, consequence: "everything else exists")
      }
    }
  }

  /// By the replication protocol, so that the journal knows what had been committed before; by SQL where the role or
  /// the server does not allow that.
  private static func createSlot(
    _ statement: SetupStatement, settings: PostgresSettings, login: PostgresSettings, role: String,
    _ connection: SQLConnection, _ stop: StopSignal
  ) throws(RelayError) -> String {
    let presence = statement.presence ?? "false"
    let log = Log(level: .warning)
    let created = "created        " + statement.comment + "\n"
    if try connection.query("SELECT (\(presence))::text AS found")[0, "found"] != "true" {
      do throws(RelayError) {
        _ = try PostgresSource.createSlot(
          settings: settings, login: login, role: role, stop: stop, log: log)
        return created
      } catch  where error.kind == .sourceDenied {
        // What follows says what is lacking, or does without.
      }
      try PostgresSource.createSlot(
        by: statement.sql, settings: settings, login: login, stop: stop, log: log)
      return created
    }
    return try perform(statement, connection)
  }

  /// A slot and a publication in another database would be of no use, and the slot would hold WAL indefinitely.
  private static func requireDatabase(
    of settings: PostgresSettings, _ connection: SQLConnection
  ) throws(RelayError) {
    guard let wanted = try conninfoDatabase(settings.conninfo) else { return }
    let found = try connection.query("SELECT current_database()::text AS name")[0, "name"]
    guard let found, found != wanted else { return }
    throw RelayError(
      .failed,
      "--as leads to database \"\(found)\", and postgres.conninfo to \"\(wanted)\"; nothing was changed",
      remedy: "Name the same database in both: --as '... dbname=\(wanted)'.")
  }

  /// - Returns: the line that tells what came of it.
  private static func perform(
    _ statement: SetupStatement, _ connection: SQLConnection
  ) throws(RelayError) -> String {
    guard let presence = statement.presence else {
      try connection.query(statement.sql, timeout: nil)
      return ""
    }
    let isThere = try connection.query("SELECT (\(presence))::text AS found")[0, "found"] == "true"
    if !isThere { try connection.query(statement.sql, timeout: nil) }
    return (isThere ? "already there  " : "created        ") + statement.comment + "\n"
  }

  /// What the server says about a statement is final; only a lost connection is worth another try.
  private static func failure(
    _ error: RelayError, _ statement: SetupStatement, consequence: String
  ) -> RelayError {
    guard let code = error.code, !["08", "53", "57"].contains(String(code.prefix(2))) else { return error }
    var error = error
    if error.kind != .sourceDenied { error.kind = .failed }
    if code == "P0001" {
      // The step itself refuses: somebody else's object stands there.
      return RelayError(.failed, "\(error.message); \(consequence)", remedy: error.remedy)
    }
    error.message = "\(error.message); \(consequence). The step was: \(statement.comment)"
    switch code {
    case "42P01", "42704", "3F000":
      error.remedy = "Create the table first (sql/01_outbox.sql), or correct outboxes and dbname."
    case "42501":
      error.remedy =
        "This step needs \(statement.needs): outboxd init --apply --as CONNINFO, or give what outboxd init "
        + "prints to the DBA. Steps that are done already are skipped, so each role can do its own."
    default: break
    }
    return error
  }
}
