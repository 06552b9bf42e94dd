// Owns: what of libpq's complaint about a connection string may be printed.
// Must not know: connections.
import CLibpq

/// libpq quotes the part of the string that it stumbled over. That may be a keyword that was mistyped, or a
/// part of the password: names and separators are shown, everything else is dots.
struct ConninfoComplaint {
  let text: String

  init(_ reason: String, of conninfo: String) {
    let lowered = conninfo.lowercased()
    guard lowered.contains("pass") || lowered.contains("@") else {
      text = reason
      return
    }
    let parts = reason.split(separator: "\"", omittingEmptySubsequences: false).map(String.init)
    if conninfo.contains("\"") {
      // With quotes in the string itself it cannot be told what libpq has quoted.
      text = (parts.first ?? "") + "…"
      return
    }
    text = parts.enumerated().map { index, part in
      index % 2 == 0 || Self.isHarmless(part, in: conninfo) ? part : "…"
    }.joined(separator: "\"")
  }

  private static func isHarmless(_ part: String, in conninfo: String) -> Bool {
    if part.utf8.count == 1, "=:/[]".contains(part) { return true }
    guard part.utf8.allSatisfy({ (0x61...0x7A).contains($0) || $0 == 0x5F }) else { return false }
    return isBeforeSecrets(part, in: conninfo) || keywords.contains { isNear(part, $0) }
  }

  /// Whether the first place of the name is one that no part of a password can have.
  private static func isBeforeSecrets(_ name: String, in conninfo: String) -> Bool {
    let isURI = conninfo.hasPrefix("postgres://") || conninfo.hasPrefix("postgresql://")
    var open = conninfo.lowercased()[...]
    if isURI {
      // A password in its place comes before the last @.
      guard let at = open.lastIndex(of: "@"), let query = open[at...].firstIndex(of: "?") else {
        return false
      }
      open = open[query...]
    }
    if let secret = open.firstRange(of: "pass") { open = open[..<secret.lowerBound] }
    let words = open.split(omittingEmptySubsequences: false) { " \t\n?&".contains($0) }
    return words.contains {
      $0.hasPrefix(name) && ($0.count == name.count || $0.dropFirst(name.count).first == "=")
    }
  }

  private static let keywords: [String] = {
    // SAFETY: PQconndefaults returns a list that ends with a NULL keyword, or NULL; it is freed below.
    guard let list = PQconndefaults() else { return [] }
    defer { PQconninfoFree(list) }
    var names: [String] = []
    var entry = list
    while let keyword = entry.pointee.keyword {
      names.append(String(cString: keyword))
      entry += 1
    }
    return names
  }()

  /// At most one slip: a letter too many, one too few, one wrong, or two swapped.
  static func isNear(_ name: String, _ keyword: String) -> Bool {
    var left = Array(name.utf8)[...]
    var right = Array(keyword.utf8)[...]
    guard right.count > 3 else { return name == keyword }
    while let first = left.first, first == right.first {
      left.removeFirst()
      right.removeFirst()
    }
    while let last = left.last, last == right.last {
      left.removeLast()
      right.removeLast()
    }
    if left.count <= 1, right.count <= 1 { return true }
    return left.count == 2 && right.count == 2 && left.elementsEqual(right.reversed())
  }
}
