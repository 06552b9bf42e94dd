// Owns: the translation of the server's errors into `RelayError`, by `SQLStateRule` and by where they arose.
// Must not know: what the relay does about an error; `RelayError.Kind.reaction` does. Failures to connect.
public import RelayCore

extension RelayError {
  /// Postgres takes nobody now: it shuts down, starts up, or comes back from a crash (57P03).
  public var meansServerEnds: Bool { code == "57P03" }
  /// Postgres has ended the connection (57P01): all of them in a shutdown, or an administrator this one. From a crash
  /// (57P02) it comes back by itself.
  public var wasEndedByServer: Bool { code == "57P01" }
}

/// Where an error arose: what it names.
struct FailureContext {
  enum Phase: Equatable {
    case sql
    /// The rows of this table are being read.
    case rows(String)
    case start, stream
  }

  var phase: Phase
  var slot: String
  var publication: String
  var target: String
  /// Of the transaction that is being read: its commit LSN.
  var transaction: LSN?
}

enum PostgresFailure {
  static func relayError(_ server: ServerMessage, _ context: FailureContext) -> RelayError {
    guard let state = server.sqlstate else { return withoutState(server, context) }
    let rule = SQLStateRule.of(state)
    switch rule?.verdict {
    case .transient: return error(.sourceUnavailable, server, context, transientRemedy(state))
    case .denied: return error(.sourceDenied, server, context, deniedRemedy(state, server.message))
    case .data:
      guard context.phase.isOfRows else { return unsuitable(server, context, rule) }
      return rowError(server, context)
    case .unsuitable: return unsuitable(server, context, rule)
    case .internal: return internalError(server, context)
    case .inUse: return slotActive(server, context)
    case .missing: return missingObject(server, context)
    case .wrongState: return wrongState(server, context)
    case .missingFile: return missingFile(server, context)
    case nil: return unsuitable(server, context, nil)
    }
  }

  private static func error(
    _ kind: RelayError.Kind, _ server: ServerMessage, _ context: FailureContext, _ remedy: String?
  ) -> RelayError {
    let subject =
      switch context.phase {
      case .sql: "Postgres (\(context.target)) refused a statement"
      case .rows(let table): "cannot read the rows of table \(table)"
      case .start: "cannot stream from slot \"\(context.slot)\""
      case .stream: "the stream of slot \"\(context.slot)\" ended" + place(server, context)
      }
    return RelayError(kind, "\(subject): \(server.text)", code: server.sqlstate, remedy: remedy)
  }

  private static func place(_ server: ServerMessage, _ context: FailureContext) -> String {
    guard let transaction = context.transaction else { return "" }
    let change = server.changeLSN.map { ", at the change at \($0)" } ?? ""
    return " in the transaction that commits at \(transaction)\(change)"
  }

  /// libpq's own errors, and a connection that ended without a word.
  private static func withoutState(_ server: ServerMessage, _ context: FailureContext) -> RelayError {
    error(
      .sourceUnavailable, server, context,
      isOutOfMemory(server.message) ? memoryRemedy(context.phase == .stream ? "twice" : "three times") : nil)
  }

  private static func unsuitable(
    _ server: ServerMessage, _ context: FailureContext, _ rule: SQLStateRule?
  ) -> RelayError {
    let reason =
      rule?.reason ?? "PostgreSQL does not define this SQLSTATE: an extension or a trigger raised it"
    let remedy =
      server.sqlstate == "08P01"
      ? poolerRemedy
      : server.hint.flatMap { server.sqlstate == "P0001" ? PostgresFailure.oneLine($0) : nil }
        ?? "Correct the server, the database or the role's settings (SQLSTATE \(server.sqlstate ?? ""): \(reason))."
    return error(.serverUnsuitable, server, context, remedy)
  }

  /// Reading the row again leads to the same error, and what is in the WAL cannot be corrected.
  private static func rowError(_ server: ServerMessage, _ context: FailureContext) -> RelayError {
    var error = error(.rowRejected, server, context, nil)
    error.commitLSN = context.transaction
    let isEncoding = server.sqlstate == "22021" || server.sqlstate == "22P05"
    let limit = "limit its size with a CHECK (octet_length(…) < …)"
    switch context.phase {
    case .rows:
      error.remedy =
        isEncoding
        ? "Correct or delete the row whose text has no form in UTF-8; every column of the table is read."
        : "Correct or delete the row, or \(limit)."
    default:
      error.remedy =
        isEncoding
        ? "Write text that is valid in the database's encoding and has a form in UTF-8, in every column of the outbox, "
          + "or use a database of encoding UTF8. What is in the WAL already cannot be corrected."
        : "Write smaller values, and \(limit). What is in the WAL already cannot be corrected."
    }
    return error
  }

  private static func internalError(_ server: ServerMessage, _ context: FailureContext) -> RelayError {
    // The server has no translations of it.
    if server.message.contains("invalid memory alloc request size"), context.phase.isOfRows {
      return rowError(server, context)
    }
    guard context.phase != .sql else { return error(.sourceUnavailable, server, context, nil) }
    var error = error(
      .serverUnsuitable, server, context,
      "Read the server's log, and repair what it names; then start outboxd again. "
        + (context.phase.isOfRows && context.phase != .stream ? "" : PostgresSource.serverRemedy))
    error.commitLSN = context.transaction
    return error
  }

  static func slotActive(slot: String, pid: Int?, code: String?) -> RelayError {
    let holder = pid.map { " by process \($0)" } ?? ""
    return RelayError(
      .slotActive, "slot \"\(slot)\" is in use\(holder)", code: code,
      remedy: "If another outboxd holds it, do nothing: this one takes over when that one ends. Otherwise: "
        + freeTheSlot(slot))
  }

  /// It comes to be when the transactions have ended, or goes with the process that makes it.
  static func slotUnfinished(_ name: String, _ slot: SlotFacts) -> RelayError {
    let maker = slot.activePID.map { "process \($0)" } ?? "a process"
    let holder = slot.waitsFor.map { "waits for \($0)" } ?? "waits until older transactions have ended"
    let giveUp = slot.activePID.map { "SELECT pg_terminate_backend(\($0)); gives up the slot." } ?? ""
    return RelayError(
      .sourceUnavailable, "slot \"\(name)\" is still being created by \(maker), which \(holder)",
      remedy: "End that transaction, or wait. " + (slot.waitsFor.map { $0.remedy + " " } ?? "") + giveUp)
  }

  static func freeTheSlot(_ slot: String) -> String {
    "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = "
      + "\(SQLText.literal(slot));"
  }

  private static func slotActive(_ server: ServerMessage, _ context: FailureContext) -> RelayError {
    let digits = server.message.reversed().drop { !$0.isASCII || !$0.isNumber }
      .prefix { $0.isASCII && $0.isNumber }
    return slotActive(slot: context.slot, pid: Int(String(digits.reversed())), code: server.sqlstate)
  }

  private static func missingObject(_ server: ServerMessage, _ context: FailureContext) -> RelayError {
    // The text may be in the server's language: then the phase decides.
    if server.message.contains("publication")
      || (context.phase == .stream && !server.message.contains("slot"))
    {
      return error(.publicationMissing, server, context, publicationGoneRemedy)
    }
    if !context.phase.isOfSlot && !server.message.contains("slot") {
      return unsuitable(server, context, SQLStateRule.of("42"))
    }
    return error(
      .slotMissing, server, context,
      "List the slots: SELECT * FROM pg_replication_slots; and restart outboxd.")
  }

  static let publicationGoneRemedy =
    "Create the publication again (outboxd init prints the SQL). Changes that were committed while it did not exist "
    + "cannot be decoded. \(GapRemedy.recover)"

  private static func wrongState(_ server: ServerMessage, _ context: FailureContext) -> RelayError {
    let text = server.text
    let lost = [
      "cannot read from logical replication slot", "can no longer access replication slot",
      "can no longer get changes from replication slot", "has been invalidated", "was invalidated",
    ]
    if lost.contains(where: text.contains) {
      return error(.slotLost, server, context, GapRemedy.slotLost(server.invalidationReason))
    }
    if text.contains("wal_level") { return error(.serverUnsuitable, server, context, walLevelRemedy) }
    if text.contains("was not created in this database") {
      return error(
        .slotUnsuitable, server, context,
        "Choose another name under postgres.slot, or connect to that database.")
    }
    return unsuitable(server, context, SQLStateRule.of("55000"))
  }

  /// A segment of WAL that is gone is named by 24 hexadecimal digits, whatever the language of the text. A file of
  /// another kind (a library, the state of a slot) can be brought back, and nothing is skipped.
  private static func missingFile(_ server: ServerMessage, _ context: FailureContext) -> RelayError {
    guard context.phase.isOfSlot else { return error(.sourceUnavailable, server, context, nil) }
    let words = server.message.split { !$0.isASCII || !($0.isHexDigit && !$0.isLowercase) }
    if words.contains(where: { $0.utf8.count == 24 }) {
      return error(.slotLost, server, context, GapRemedy.missingWAL)
    }
    return error(
      .serverUnsuitable, server, context,
      "Restore the file, or reinstall Postgres if it is a library of the server's. \(PostgresSource.serverRemedy)"
    )
  }
}

extension FailureContext.Phase {
  /// Rows are read: an error may be one row's.
  fileprivate var isOfRows: Bool {
    switch self {
    case .rows, .stream: true
    case .sql, .start: false
    }
  }

  fileprivate var isOfSlot: Bool { self == .start || self == .stream }
}

extension PostgresSource {
  /// Where the stream cannot be read, and nothing on the server may change that.
  public static let streamRemedy = "If it halts at the same place again: \(GapRemedy.recover)"

  /// Where something on the server may be corrected: what the slot has is not given up unasked.
  static let serverRemedy =
    "If that is not possible: outboxd recover --tables publishes the rows of the tables and continues after them, with another "
    + "slot in place of this one."

  /// A table's shape, in the stream, that does not suit the mapping.
  public static let shapeRemedy =
    "If the table was altered since, and fits the mapping now: \(GapRemedy.recover)"
}

// What outboxd needs.
extension PostgresFailure {
  /// - Parameter version: as `server_version_num` has it.
  static func version(_ version: Int, target: String) -> RelayError? {
    guard version < 150_000 else { return nil }
    return RelayError(
      .serverUnsuitable, "the server (\(target)) is PostgreSQL \(PostgresSource.version(version))",
      remedy: "Upgrade it: outboxd needs PostgreSQL 15 or later.")
  }
}

// What to do.
extension PostgresFailure {
  static let walLevelRemedy =
    "ALTER SYSTEM SET wal_level = 'logical'; and restart Postgres (managed services "
    + "have a parameter of their own: rds.logical_replication, cloudsql.logical_decoding)."

  static let authenticationRemedy =
    "Check user and password (postgres.password_file), and that "
    + "pg_hba.conf has a line for this database, user and address; the keyword \"replication\" does not match "
    + "logical replication."

  static let poolerRemedy =
    "A connection pooler or proxy seems to answer at this address. \(directly)"

  static let directly =
    "Connect to Postgres directly: name its own host and port in postgres.conninfo."

  /// By the code alone, since the text may be in the server's language.
  static func transientRemedy(_ state: String) -> String? {
    switch state {
    case "25006":
      "Connect to the primary: name all hosts in postgres.conninfo and add target_session_attrs=read-write."
    case "53100": "Free disk space on the server."
    case "53200":
      "Give the server more memory, or lower shared_buffers, work_mem or logical_decoding_work_mem."
    case "53300":
      "Close connections that are not used, or raise the limit that the message means: max_connections or "
        + "max_wal_senders (both need a restart), ALTER ROLE … CONNECTION LIMIT, ALTER DATABASE … CONNECTION LIMIT."
    case "53400":
      "Raise max_replication_slots (needs a restart), or drop a slot that is not used: "
        + "SELECT slot_name, active, wal_status FROM pg_replication_slots;"
    case "55P03": "End the session that holds the lock: SELECT * FROM pg_stat_activity WHERE state <> 'idle';"
    default: nil
    }
  }

  static func deniedRemedy(_ state: String, _ message: String) -> String {
    switch state {
    case "3D000": return "Correct dbname in postgres.conninfo, or create the database."
    case "42501":
      let grant = "ALTER ROLE … WITH REPLICATION; (Amazon RDS: GRANT rds_replication TO …;)"
      return message.contains("replication") || message.contains("walsender")
        || message.contains("WAL sender")
        ? grant : "outboxd init prints the grants that the role needs."
    default: return authenticationRemedy
    }
  }

  static func isOutOfMemory(_ text: String) -> Bool {
    text.contains("out of memory") || text.contains("cannot allocate memory")
  }

  static func memoryRemedy(_ factor: String) -> String {
    "Give outboxd more memory: it needs about \(factor) the size of the largest row, where columns that no event uses "
      + "count too. Or keep such rows out of the outbox: CHECK (octet_length(…) < …)."
  }

  /// Line ends and what surrounds them become a single "; ".
  static func oneLine(_ text: String) -> String {
    text.split(whereSeparator: { $0 == "\n" || $0 == "\r" || $0 == "\r\n" })
      .map { line in String(line.drop { $0 == " " || $0 == "\t" }) }
      .filter { !$0.isEmpty }.joined(separator: "; ")
  }
}
