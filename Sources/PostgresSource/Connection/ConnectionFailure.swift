// Owns: the translation of what libpq says about an attempt to connect into `RelayError`.
// Must not know: how a connection is made.
import RelayCore

/// What libpq says about an attempt to connect, with the verbosity that shows SQLSTATEs: a FATAL of the server as
/// `FATAL:  28P01: text` and a line LOCATION. Of several hosts each has its lines.
struct ConnectionFailure {
  /// What people read: without the codes and places in the source.
  let text: String
  /// Those of the servers that answered, in the order of the attempts.
  let states: [String]

  init(_ message: String) {
    var states: [String] = []
    var lines: [String] = []
    for line in message.split(whereSeparator: \.isNewline) {
      if line.hasPrefix("LOCATION:") { continue }
      guard let (head, state, rest) = Self.split(line) else {
        lines.append(String(line))
        continue
      }
      states.append(state)
      lines.append(String(head) + String(rest))
    }
    self.states = states
    text = PostgresFailure.oneLine(lines.joined(separator: "\n"))
  }

  /// `…FATAL:  28P01: text` as `…FATAL:  `, the code, and the text. The severity may be in the server's language.
  private static func split(_ line: Substring) -> (head: Substring, state: String, rest: Substring)? {
    var search = line
    while let mark = search.firstRange(of: ":  ") {
      let rest = line[mark.upperBound...]
      let state = rest.prefix(5)
      if state.utf8.count == 5, state.allSatisfy({ $0.isASCII && ($0.isNumber || $0.isUppercase) }),
        rest.dropFirst(5).hasPrefix(": ")
      {
        return (line[..<mark.upperBound], String(state), rest.dropFirst(7))
      }
      search = rest
    }
    return nil
  }

  /// The code that decides: the first that a person must see to, or else the last of a host that is not just starting
  /// or shutting down, or else the last.
  private var state: String? {
    states.first { !Self.isTransient($0) } ?? states.last { $0 != "57P03" } ?? states.last
  }

  /// An error of the server's own configuration or memory may end by itself; at a login nothing else does.
  private static func isTransient(_ state: String) -> Bool {
    switch SQLStateRule.of(state)?.verdict {
    case .transient, .internal, .inUse, .missingFile: true
    case .denied, .data, .unsuitable, .missing, .wrongState, nil: false
    }
  }

  func error(target: String) -> RelayError {
    guard let state else { return withoutState(target) }
    guard Self.isTransient(state) else {
      return RelayError(
        .sourceDenied, "Postgres (\(target)) refused the connection: \(text)", code: state,
        remedy: Self.deniedRemedy(state, text))
    }
    return RelayError(
      .sourceUnavailable, "Postgres (\(target)) cannot accept the connection now: \(text)", code: state,
      remedy: PostgresFailure.transientRemedy(state))
  }

  private static func deniedRemedy(_ state: String, _ text: String) -> String {
    switch SQLStateRule.of(state)?.verdict {
    case .denied:
      if text.contains("is not permitted to log in") { return "ALTER ROLE … WITH LOGIN;" }
      return PostgresFailure.deniedRemedy(state, text)
    // ALLOW_CONNECTIONS is off.
    case .wrongState:
      return "ALTER DATABASE … ALLOW_CONNECTIONS true; or correct dbname in postgres.conninfo."
    default:
      return state == "08P01"
        ? PostgresFailure.poolerRemedy
        : "Correct what the server names: options in postgres.conninfo, settings of the role or the database, a login "
          + "trigger."
    }
  }

  // MARK: Without a SQLSTATE

  /// libpq's own texts.
  private static let deniedTexts: [(text: String, remedy: String)] = [
    ("no password supplied", PostgresFailure.authenticationRemedy),
    ("authentication method requirement", PostgresFailure.authenticationRemedy),
    ("authentication failed", PostgresFailure.authenticationRemedy),
    ("channel binding", "Check channel_binding in postgres.conninfo; it needs sslmode=require or stricter."),
    ("certificate", "Check sslmode, sslrootcert, sslcert and sslkey in postgres.conninfo."),
    ("private key", "Check sslkey in postgres.conninfo: outboxd's user must own the file, with mode 0600."),
    ("does not support SSL", "Switch on ssl at the server, or set sslmode in postgres.conninfo."),
    ("SSL error", "Check sslmode and the certificates in postgres.conninfo."),
  ]

  /// The server has answered, and is not the one that was asked for.
  private static let sessionTexts = [
    "session is read-only", "session is not read-only", "server is in hot standby mode",
    "server is not in hot standby mode",
  ]

  private func withoutState(_ target: String) -> RelayError {
    if let denied = Self.deniedTexts.first(where: { text.contains($0.text) }) {
      return RelayError(
        .sourceDenied, "Postgres (\(target)) refused the connection: \(text)", remedy: denied.remedy)
    }
    var remedy = "Check host and port in postgres.conninfo, and that Postgres listens there."
    if text.contains("could not translate host name") {
      remedy = "Correct the host in postgres.conninfo, or the name server."
    } else if Self.sessionTexts.contains(where: text.contains) {
      remedy =
        "Name the primary in postgres.conninfo; target_session_attrs there says which server is wanted. During a "
        + "failover: wait until a server is promoted."
    } else if PostgresFailure.isOutOfMemory(text) {
      remedy = "Give outboxd more memory."
    }
    return RelayError(.sourceUnavailable, "no connection to Postgres (\(target)): \(text)", remedy: remedy)
  }
}
