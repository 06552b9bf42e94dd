// Owns: conninfo: parsing, defaults, the password file, and a form of it that may be printed.
// Must not know: connections.
import CLibpq
import Glibc
public import RelayCore

/// The keywords and values of a connection.
struct ConnectionParameters {
  private(set) var values: [(keyword: String, value: String)]
  /// Milliseconds for the whole attempt; libpq leaves the deadline to the caller.
  private(set) var timeout: Int
  /// `host:port/database`, for messages.
  let target: String

  /// - Throws: `configurationInvalid` where libpq cannot read the string, `sourceDenied` where the password
  ///   file cannot be read.
  init(
    _ settings: PostgresSettings, replication: Bool, encoding: String = "UTF8", applicationName: String
  ) throws(RelayError) {
    let options = try ConnectionOption.parse(settings.conninfo)
    var chosen = options.compactMap { option in option.value.map { (option.keyword, $0) } }
    func set(_ keyword: String, _ value: String) {
      chosen.removeAll { $0.0 == keyword }
      chosen.append((keyword, value))
    }
    func fill(_ keyword: String, _ value: String) {
      // A keyword that this libpq does not know would be refused by it.
      guard let option = options.first(where: { $0.keyword == keyword }), option.value == nil,
        option.environmentValue == nil
      else { return }
      set(keyword, value)
    }
    let hosts = options.first { $0.keyword == "host" }?.effectiveValue ?? ""
    let hostCount = max(1, hosts.split(separator: ",", omittingEmptySubsequences: false).count)

    fill("connect_timeout", "10")
    let seconds =
      chosen.first { $0.0 == "connect_timeout" }.flatMap { Int($0.1) }
      ?? options.first { $0.keyword == "connect_timeout" }?.effectiveValue.flatMap { Int($0) } ?? 10
    // Zero and less mean "no limit" to libpq; here an attempt ends and is repeated.
    timeout = (seconds > 0 ? max(2, min(seconds, 3600)) : 60) * 1000 * hostCount
    // With several hosts a silent one must fail in time for the next to be tried.
    fill("tcp_user_timeout", hostCount > 1 ? "10000" : "30000")
    fill("keepalives", "1")
    fill("keepalives_idle", "10")
    fill("keepalives_interval", "5")
    fill("keepalives_count", "3")
    fill("application_name", applicationName)
    // Names and payloads are read as UTF-8, whatever the operator's terminal uses.
    set("client_encoding", encoding)
    if replication { set("replication", "database") }
    if let file = settings.passwordFile { set("password", try Self.password(in: file)) }
    try Self.examineFiles(of: settings.conninfo)
    values = chosen.map { (keyword: $0.0, value: $0.1) }
    target = Self.target(of: options)
  }

  private static func target(of options: [ConnectionOption]) -> String {
    func shown(_ keyword: String) -> String? { options.first { $0.keyword == keyword }?.effectiveValue }
    let host = shown("host") ?? shown("hostaddr") ?? "local socket"
    return "\(host):\(shown("port") ?? "5432")/\(shown("dbname") ?? shown("user") ?? "")"
  }

  /// libpq would wait for the writer of a named pipe indefinitely.
  private static func examineFiles(of conninfo: String) throws(RelayError) {
    for (keyword, path) in PostgresSettings.conninfoFiles(conninfo) where SmallFile.exists(path) {
      do throws(SmallFile.Refusal) {
        _ = try SmallFile.status(path, .anyOwner)
      } catch {
        throw RelayError(
          .sourceDenied, "the file \(path), which \(keyword) names, \(error.reason)",
          remedy: error.remedy ?? "Correct \(keyword) in the conninfo, or the file.")
      }
    }
  }

  private static func password(in path: String) throws(RelayError) -> String {
    let password: String
    do throws(SmallFile.Refusal) {
      password = try SmallFile.secret(path, limit: 65_536)
    } catch {
      throw RelayError(
        .sourceDenied, "the password file \(path) \(error.reason)",
        remedy: error.remedy ?? "Correct postgres.password_file, or let outboxd's user read the file.")
    }
    guard !password.utf8.contains(0) else {
      throw RelayError(
        .sourceDenied, "the password file \(path) does not hold a password",
        remedy: "Write the password alone into the file named by postgres.password_file.")
    }
    return password
  }
}

/// One row of what libpq makes of a connection string.
struct ConnectionOption {
  var keyword: String
  /// What the string says, nil where it says nothing.
  var value: String?
  var environmentValue: String?
  var compiledValue: String?
  var isSecret: Bool

  var effectiveValue: String? { value ?? environmentValue ?? compiledValue }

  /// `ENGINE:KEY`, where the engine is a path (PostgreSQL manual, 34.1.2, sslkey).
  private static func isLibrary(_ key: String) -> Bool {
    key.utf8.firstIndex(of: UInt8(ascii: ":")).map { key.utf8[..<$0].contains(UInt8(ascii: "/")) } ?? false
  }

  /// Reads a conninfo string or URI.
  /// - Parameter name: where it comes from, for the message.
  static func parse(
    _ conninfo: String, name: String = "postgres.conninfo"
  ) throws(RelayError) -> [ConnectionOption] {
    func fault(_ reason: String) -> RelayError {
      RelayError(
        .configurationInvalid, "\(name) cannot be read: \(reason)", remedy: ConninfoSecrets.advice)
    }
    if let reason = ConninfoSecrets.fault(in: conninfo) { throw fault(reason) }
    let options = try entries(of: conninfo, name: name)
    for option in options {
      guard let value = option.effectiveValue else { continue }
      if option.keyword == "sslkey", isLibrary(value) {
        throw RelayError(
          .configurationInvalid,
          "\(name) cannot be used: its sslkey (or PGSSLKEY) \(PrintableText.quoted(value)) has OpenSSL load a library, "
            + "which would run as outboxd's user",
          remedy:
            "Name the file of a key, or an engine that OpenSSL was installed with, as ENGINE:KEY without a path."
        )
      }
      guard let reason = ConninfoSecrets.fault(keyword: option.keyword, value: value) else { continue }
      throw fault(option.value == nil ? "in the environment, \(reason)" : reason)
    }
    return options
  }

  /// All keywords that libpq knows, as it reads the text.
  private static func entries(of conninfo: String, name: String) throws(RelayError) -> [ConnectionOption] {
    var message: UnsafeMutablePointer<CChar>?
    // SAFETY: conninfo is passed as a NUL-terminated text for the call; what libpq returns is freed below.
    let list = PQconninfoParse(conninfo, &message)
    defer {
      PQconninfoFree(list)
      PQfreemem(message)
    }
    guard let list else {
      let reason = message.map { PostgresFailure.oneLine(String(cString: $0)) } ?? "out of memory"
      throw RelayError(
        .configurationInvalid,
        "\(name) cannot be read: \(ConninfoComplaint(reason, of: conninfo).text)",
        remedy: "Write keyword=value pairs or a postgresql:// URI, as PostgreSQL's manual has them in "
          + "34.1.1; put values with spaces in single quotes.")
    }
    var options: [ConnectionOption] = []
    var entry = list
    // SAFETY: the list ends with an entry whose keyword is NULL; no entry after it is read.
    while let keyword = entry.pointee.keyword {
      let environment = entry.pointee.envvar.flatMap { getenv($0) }.map { String(cString: $0) }
      options.append(
        ConnectionOption(
          keyword: String(cString: keyword), value: entry.pointee.val.map { String(cString: $0) },
          environmentValue: environment?.isEmpty == true ? nil : environment,
          compiledValue: entry.pointee.compiled.map { String(cString: $0) },
          // An asterisk marks a field whose value is not to be shown.
          isSecret: entry.pointee.dispchar.map { $0.pointee == 0x2A } ?? false))
      entry += 1
    }
    return options
  }
}

/// The connection string as `keyword=value` pairs, with dots in place of passwords: safe to print.
/// - Throws: `configurationInvalid` where libpq cannot read the string.
public func redactedConninfo(_ conninfo: String) throws(RelayError) -> String {
  try ConnectionOption.parse(conninfo).compactMap { option in
    guard let value = option.value else { return nil }
    if option.isSecret { return "\(option.keyword)=\(PrintableText.secret)" }
    let plain = !value.isEmpty && !value.unicodeScalars.contains { " '\\\n\t".unicodeScalars.contains($0) }
    if plain { return "\(option.keyword)=\(value)" }
    let escaped = value.unicodeScalars.map { $0 == "'" || $0 == "\\" ? "\\\($0)" : String($0) }.joined()
    return "\(option.keyword)='\(escaped)'"
  }.joined(separator: " ")
}

/// The user that the connection string, the environment or the system names; nil where none does.
public func conninfoUser(_ conninfo: String) throws(RelayError) -> String? {
  var options = try ConnectionOption.parse(conninfo)
  if let user = options.first(where: { $0.keyword == "user" })?.effectiveValue { return user }
  // SAFETY: PQconndefaults returns a list that ends with a NULL keyword, or NULL; it is freed below.
  guard let list = PQconndefaults() else { return nil }
  defer { PQconninfoFree(list) }
  options.removeAll()
  var entry = list
  while let keyword = entry.pointee.keyword {
    if String(cString: keyword) == "user" { return entry.pointee.val.map { String(cString: $0) } }
    entry += 1
  }
  return nil
}

/// The database that the connection string, the environment or the user's name leads to; nil where it is left
/// to a service file or a default that only libpq knows.
public func conninfoDatabase(_ conninfo: String) throws(RelayError) -> String? {
  let options = try ConnectionOption.parse(conninfo)
  func value(_ keyword: String) -> String? { options.first { $0.keyword == keyword }?.effectiveValue }
  if let database = value("dbname") { return database }
  return value("service") == nil ? try conninfoUser(conninfo) : nil
}
