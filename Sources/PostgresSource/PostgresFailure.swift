// Owns: the translation of SQLSTATEs and of libpq's texts into `RelayError`.
// Must not know: what the relay does about an error; `RelayError.Kind.reaction` does.
import CLibpq
import RelayCore

/// An error or notice of the server.
struct ServerMessage: Equatable {
  var sqlstate: String?
  var severity: String?
  var message: String
  var detail: String?

  init(sqlstate: String?, severity: String? = nil, message: String, detail: String? = nil) {
    self.sqlstate = sqlstate
    self.severity = severity
    self.message = message
    self.detail = detail
  }

  /// The fields of a result with an error or a notice in it.
  init(_ result: OpaquePointer) {
    func field(_ code: UInt8) -> String? {
      // SAFETY: the result is alive for the call; libpq returns a NUL-terminated text that it owns, or nil.
      guard let text = PQresultErrorField(result, Int32(code)) else { return nil }
      return String(cString: text)
    }
    sqlstate = field(UInt8(ascii: "C"))
    severity = field(UInt8(ascii: "V"))
    // SAFETY: PQresultErrorMessage returns a text for every result, an empty one where there is no error.
    message = field(UInt8(ascii: "M")) ?? PQresultErrorMessage(result).map { String(cString: $0) } ?? ""
    detail = field(UInt8(ascii: "D"))
  }

  var text: String {
    let line = PostgresFailure.oneLine(message)
    return detail.map { "\(line) (\(PostgresFailure.oneLine($0)))" } ?? line
  }
}

/// Where an error arose: what it names.
struct FailureContext {
  enum Phase { case sql, start, stream }
  var phase: Phase
  var slot: String
  var publication: String
  var target: String
  /// The position that the relay had reached, where there is one.
  var lsn: LSN?
}

enum PostgresFailure {
  static func relayError(_ server: ServerMessage, _ context: FailureContext) -> RelayError {
    let place = context.lsn.map { " at \($0)" } ?? ""
    func error(_ kind: RelayError.Kind, _ remedy: String?) -> RelayError {
      let subject =
        switch context.phase {
        case .sql: "Postgres (\(context.target)) refused a statement"
        case .start: "slot \"\(context.slot)\" cannot be streamed from"
        case .stream: "the stream of slot \"\(context.slot)\" ended\(place)"
        }
      return RelayError(kind, "\(subject): \(server.text)", code: server.sqlstate, remedy: remedy)
    }
    let state = server.sqlstate ?? ""
    switch state {
    case "55006": return slotActive(server, context)
    case "42704": return missingObject(server, context, error)
    case "55000": return wrongState(server, context, error)
    case "58P01" where context.phase != .sql: return error(.slotLost, slotLostRemedy)
    case "42501": return error(.sourceDenied, deniedRemedy(server.message))
    case "3D000": return error(.sourceDenied, "Correct dbname in postgres.conninfo, or create the database.")
    case "53300":
      return error(
        .sourceUnavailable,
        "Raise max_connections or max_wal_senders, or close connections that are not used.")
    case "53400":
      return error(
        .sourceUnavailable,
        "Raise max_replication_slots (needs a restart), or drop a slot that is not used: "
          + "SELECT slot_name, active, wal_status FROM pg_replication_slots;")
    case "XX000" where server.message.contains("invalid memory alloc request size"):
      return error(
        .serverUnsuitable,
        "A committed value is larger than the server can send. Publish it by hand, skip it with "
          + "SELECT pg_replication_slot_advance(\(SQLText.literal(context.slot)), 'LSN'); and limit the "
          + "payload with a CHECK (octet_length(...)).")
    case "42601", "0A000", "22023", "08P01", "42P17":
      return error(.serverUnsuitable, "outboxd needs PostgreSQL 14 or later.")
    case _ where state.hasPrefix("28"): return error(.sourceDenied, authenticationRemedy)
    default:
      // 08*, 57P*, 53*, EOF without a SQLSTATE, and whatever has no name here: it is tried again, loudly.
      return error(.sourceUnavailable, nil)
    }
  }

  static func slotActive(slot: String, pid: Int?, code: String?) -> RelayError {
    let holder = pid.map { " by process \($0)" } ?? ""
    return RelayError(
      .slotActive, "slot \"\(slot)\" is in use\(holder)", code: code,
      remedy: "Nothing, if that is another outboxd: this one takes over when it ends. Otherwise: "
        + freeTheSlot(slot))
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

  private static func missingObject(
    _ server: ServerMessage, _ context: FailureContext,
    _ error: (RelayError.Kind, String?) -> RelayError
  ) -> RelayError {
    // The text may be in the server's language: then the phase decides.
    if server.message.contains("publication")
      || (context.phase == .stream && !server.message.contains("slot"))
    {
      return error(.publicationMissing, publicationGoneRemedy)
    }
    if context.phase == .sql && !server.message.contains("slot") { return error(.serverUnsuitable, nil) }
    return error(.slotMissing, "See what is there: SELECT * FROM pg_replication_slots; and restart outboxd.")
  }

  static let publicationGoneRemedy =
    "Create the publication again (outboxd init prints the SQL). Changes that were committed while it did not exist "
    + "cannot be decoded. \(GapRemedy.recover) Should it see no gap, as the journal was off: outboxd recover --tables."

  private static func wrongState(
    _ server: ServerMessage, _ context: FailureContext,
    _ error: (RelayError.Kind, String?) -> RelayError
  ) -> RelayError {
    let text = server.text
    let lost = [
      "cannot read from logical replication slot", "can no longer access replication slot",
      "can no longer get changes from replication slot", "has been invalidated", "was invalidated",
    ]
    if lost.contains(where: text.contains) { return error(.slotLost, slotLostRemedy) }
    if text.contains("wal_level") { return error(.serverUnsuitable, walLevelRemedy) }
    if text.contains("was not created in this database") {
      return error(.slotUnsuitable, "Choose another name under postgres.slot, or connect to that database.")
    }
    return error(.serverUnsuitable, nil)
  }

  static let slotLostRemedy = GapRemedy.recover(
    "Set max_slot_wal_keep_size so that the slot outlives an outage.")

  static let walLevelRemedy =
    "ALTER SYSTEM SET wal_level = 'logical'; and restart Postgres (managed services "
    + "have a parameter of their own: rds.logical_replication, cloudsql.logical_decoding)."

  private static let authenticationRemedy =
    "Check user and password (postgres.password_file), and that "
    + "pg_hba.conf has a line for this database, user and address; the keyword \"replication\" does not match "
    + "logical replication."

  private static func deniedRemedy(_ message: String) -> String {
    let grant = "ALTER ROLE ... WITH REPLICATION; (Amazon RDS: GRANT rds_replication TO ...;)"
    return message.contains("replication") || message.contains("walsender")
      ? grant : "outboxd init prints the grants that the role needs."
  }
}

// Failures to connect, which have no SQLSTATE: libpq gives only their text.
extension PostgresFailure {
  private static let deniedTexts: [(text: String, remedy: String)] = [
    ("password authentication failed", authenticationRemedy),
    ("authentication failed", authenticationRemedy),
    ("no password supplied", authenticationRemedy),
    ("no pg_hba.conf entry", authenticationRemedy),
    ("pg_hba.conf rejects", authenticationRemedy),
    ("replication role to start walsender", deniedRemedy("walsender")),
    ("start WAL sender", deniedRemedy("walsender")),
    ("permission denied", deniedRemedy("")),
    ("is not permitted to log in", "ALTER ROLE ... WITH LOGIN;"),
    ("certificate", "Check sslmode, sslrootcert, sslcert and sslkey in postgres.conninfo."),
    ("does not support SSL", "Switch on ssl at the server, or set sslmode in postgres.conninfo."),
    ("SSL error", "Check sslmode and the certificates in postgres.conninfo."),
    ("does not exist", "Correct dbname and user in postgres.conninfo, or create them (outboxd init)."),
  ]

  static func connectionFailure(_ text: String, target: String) -> RelayError {
    let line = oneLine(text)
    if let denied = deniedTexts.first(where: { line.contains($0.text) }) {
      return RelayError(
        .sourceDenied, "Postgres (\(target)) refused the connection: \(line)", remedy: denied.remedy)
    }
    let isThere = line.contains("the database system is") || line.contains("recovery")
    let isFull = line.contains("too many clients") || line.contains("connection slots are reserved")
    var remedy =
      isFull
      ? "Raise max_connections, or close connections that are not used." : isThere ? nil : unreachableRemedy
    if line.contains("max_wal_senders") {
      remedy = "Raise max_wal_senders (needs a restart), or end a replication connection that is not used."
    }
    return RelayError(
      .sourceUnavailable, "no connection to Postgres (\(target)): \(line)", remedy: remedy)
  }

  static let unreachableRemedy = "Check host and port in postgres.conninfo, and that Postgres listens there."

  /// Line ends and what surrounds them become a single "; ".
  static func oneLine(_ text: String) -> String {
    text.split(whereSeparator: { $0 == "\n" || $0 == "\r" || $0 == "\r\n" })
      .map { line in String(line.drop { $0 == " " || $0 == "\t" }) }
      .filter { !$0.isEmpty }.joined(separator: "; ")
  }
}
