// Owns: what a secret looks like when it is printed, and which settings are secrets.
// Must not know: where it is printed.

enum Redaction {
  static let dots = "........"

  /// Whether the value of a librdkafka property is a secret.
  static func isSecret(property name: String) -> Bool {
    let name = name.lowercased()
    return [
      "password", "secret", "key.pem", "token", "credential", "sasl.jaas", "oauthbearer.config", "passphrase",
    ].contains { name.contains($0) }
  }

  /// A conninfo, keywords or URI, with dots for its passwords. What cannot be read is dots as a whole.
  static func conninfo(_ text: String) -> String {
    if text.hasPrefix("postgresql://") || text.hasPrefix("postgres://") { return uri(text) }
    guard let pairs = ConninfoKeywords.parse(text) else { return text.isEmpty ? "" : dots }
    var result = ""
    var end = text.startIndex
    for pair in pairs where isSecret(keyword: pair.keyword) {
      result += text[end..<pair.valueRange.lowerBound] + dots
      end = pair.valueRange.upperBound
    }
    return result + text[end...]
  }

  /// Whether a conninfo holds a password. Its other secrets have no `*_file` of ours.
  static func hasPassword(conninfo text: String) -> Bool {
    if text.hasPrefix("postgresql://") || text.hasPrefix("postgres://") {
      let (authority, query) = uriParts(text)
      if let user = authority.userinfo, user.contains(":") { return true }
      return query.contains { $0.hasPrefix("password=") }
    }
    return ConninfoKeywords.parse(text)?.contains { $0.keyword == "password" } ?? false
  }

  private static func isSecret(keyword: String) -> Bool {
    ["password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"]
      .contains(keyword.lowercased())
  }

  private static func uri(_ text: String) -> String {
    let (authority, query) = uriParts(text)
    var result = String(authority.scheme)
    if let user = authority.userinfo {
      if let colon = user.firstIndex(of: ":") {
        result += user[...colon] + dots
      } else {
        result += user
      }
      result += "@"
    }
    result += authority.rest
    guard !query.isEmpty else { return result }
    let masked = query.map { item in
      let name = item.prefix { $0 != "=" }
      return isSecret(keyword: percentDecoded(name)) ? "\(name)=\(dots)" : String(item)
    }
    return result + "?" + masked.joined(separator: "&")
  }

  private typealias Authority = (scheme: Substring, userinfo: Substring?, rest: Substring)

  /// A password may hold a `/` or a `?` that nobody encoded: the last `@` before the query's parameters
  /// ends it, so that nothing of it is printed.
  private static func uriParts(_ text: String) -> (Authority, query: [Substring]) {
    guard let slashes = text.firstRange(of: "://") else { return ((text[...], nil, ""), []) }
    let scheme = text[..<slashes.upperBound]
    let body = text[slashes.upperBound...]
    var userinfo: Substring?
    var rest = body
    let firstEnd = body.firstIndex { $0 == "/" || $0 == "?" } ?? body.endIndex
    if let at = body[..<firstEnd].lastIndex(of: "@") ?? body.lastIndex(of: "@") {
      userinfo = body[..<at]
      rest = body[body.index(after: at)...]
    }
    guard let mark = rest.firstIndex(of: "?") else { return ((scheme, userinfo, rest), []) }
    let query = rest[rest.index(after: mark)...].split(separator: "&", omittingEmptySubsequences: false)
    return ((scheme, userinfo, rest[..<mark]), query)
  }

  private static func percentDecoded(_ text: Substring) -> String {
    var bytes: [UInt8] = []
    var rest = text.utf8[...]
    while let byte = rest.popFirst() {
      if byte == 0x25, rest.count >= 2,
        let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16)
      {
        bytes.append(value)
        rest = rest.dropFirst(2)
      } else {
        bytes.append(byte)
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}

/// The keyword form of a conninfo: `host=db password='a b'`. Source: PostgreSQL manual, 34.1.1.1.
enum ConninfoKeywords {
  struct Pair {
    var keyword: String
    var valueRange: Range<String.Index>
  }

  /// Nil where the text is not of this form.
  static func parse(_ text: String) -> [Pair]? {
    var pairs: [Pair] = []
    var position = text.startIndex
    func skipSpaces() {
      while position < text.endIndex, text[position].isWhitespace { text.formIndex(after: &position) }
    }
    while true {
      skipSpaces()
      if position == text.endIndex { return pairs }
      let start = position
      while position < text.endIndex, text[position] != "=", !text[position].isWhitespace {
        text.formIndex(after: &position)
      }
      let keyword = String(text[start..<position])
      skipSpaces()
      guard !keyword.isEmpty, position < text.endIndex, text[position] == "=" else { return nil }
      text.formIndex(after: &position)
      skipSpaces()
      guard let end = endOfValue(in: text, from: position) else { return nil }
      pairs.append(Pair(keyword: keyword, valueRange: position..<end))
      position = end
    }
  }

  private static func endOfValue(in text: String, from start: String.Index) -> String.Index? {
    var position = start
    let isQuoted = start < text.endIndex && text[start] == "'"
    if isQuoted { text.formIndex(after: &position) }
    while position < text.endIndex {
      let character = text[position]
      if isQuoted ? character == "'" : character.isWhitespace {
        return isQuoted ? text.index(after: position) : position
      }
      text.formIndex(after: &position)
      if character == "\\", position < text.endIndex { text.formIndex(after: &position) }
    }
    return isQuoted ? nil : position
  }
}
