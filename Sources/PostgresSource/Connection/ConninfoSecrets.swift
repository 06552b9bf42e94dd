// Owns: finding a password that libpq would take for something else, which is printed.
// Must not know: connections.

/// libpq takes a `/`, `@` or `:` of a password that is not percent-encoded for the end of it: the rest becomes a host, a
/// port or a database, and those are shown in messages. No database or host is named so by intention.
enum ConninfoSecrets {
  static let advice =
    "percent-encode user and password: / is %2F, @ is %40, : is %3A, ? is %3F, # is %23, % is %25; or leave the password "
    + "out, and use postgres.password_file"

  /// What is wrong with the text, without any part of it. Nil: nothing can be told, and libpq may read it.
  static func fault(in conninfo: String) -> String? {
    for scheme in ["postgresql://", "postgres://"] where conninfo.hasPrefix(scheme) {
      return uriFault(conninfo.dropFirst(scheme.count))
    }
    return nil
  }

  /// What is wrong with a value that libpq has read. Nil: nothing.
  static func fault(keyword: String, value: String) -> String? {
    guard ["host", "hostaddr", "port", "dbname", "user"].contains(keyword) else { return nil }
    if value.contains("://") {
      return "the value of \(keyword) is a URI: write the URI alone, in place of keywords and values"
    }
    // A socket in the abstract namespace begins with @.
    if keyword == "host",
      value.split(separator: ",").contains(where: { !$0.hasPrefix("/") && $0.dropFirst().contains("@") })
    {
      return "the value of host has an @ in it: write user and password as keywords of their own"
    }
    if keyword == "port", value.contains(where: { !$0.isASCII || !($0.isNumber || $0 == "," || $0 == " ") }) {
      return "the value of port is not a number"
    }
    return nil
  }

  private static func uriFault(_ rest: Substring) -> String? {
    // As libpq reads it: user and password end at the first @ that no / comes before.
    let head = rest.prefix { $0 != "@" && $0 != "/" }
    let hasLogin = rest[head.endIndex...].first == "@"
    let tail = hasLogin ? rest[head.endIndex...].dropFirst() : rest
    let place = tail.prefix { $0 != "?" }
    let authority = place.prefix { $0 != "/" }
    if place.contains("@") { return "the URI has a / or @ where user, password or host stand" }
    for host in authority.split(separator: ",", omittingEmptySubsequences: false) {
      let end = host.lastIndex(of: "]").map { host.index(after: $0) } ?? host.startIndex
      guard let colon = host[end...].firstIndex(of: ":") else { continue }
      let port = host[host.index(after: colon)...]
      if !port.utf8.allSatisfy({ (0x30...0x39).contains($0) }) {
        return "the URI has a port that is not a number"
      }
    }
    return nil
  }
}
