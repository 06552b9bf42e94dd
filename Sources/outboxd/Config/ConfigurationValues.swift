// Owns: the text form of each kind of value: durations, addresses, tables, names.
// Must not know: where the text comes from.
import PostgresSource
import RelayCore

enum ConfigurationValues {
  /// `500ms`, `25s`, `2m` as milliseconds.
  static func duration(_ text: String) throws(ValueFault) -> Int {
    let digits = text.prefix { $0.isASCII && $0.isNumber }
    let factor: Int? =
      switch text.dropFirst(digits.count) {
      case "ms": 1
      case "s": 1000
      case "m": 60_000
      default: nil
      }
    // A day at most: nothing here is meant to last longer, and no timer overflows.
    guard let factor, let number = Int(digits), number <= 86_400_000 / factor else {
      throw ValueFault("\"\(text)\" is not a duration", "write 25s, 500ms or 2m, at most 24 hours")
    }
    return number * factor
  }

  static func durationText(milliseconds: Int) -> String {
    milliseconds % 1000 == 0 ? "\(milliseconds / 1000)s" : "\(milliseconds)ms"
  }

  /// `90s`, `30m`, `24h`, `7d` as seconds; `off` is nil.
  static func window(_ text: String) throws(ValueFault) -> Int? {
    if text == "off" { return nil }
    let digits = text.prefix { $0.isASCII && $0.isNumber }
    let factor: Int? =
      switch text.dropFirst(digits.count) {
      case "s": 1
      case "m": 60
      case "h": 3600
      case "d": 86_400
      default: nil
      }
    guard let factor, let number = Int(digits), number >= 1, number <= 366 * 86_400 / factor else {
      throw ValueFault("\"\(text)\" is not a span of time", "write 90s, 30m, 24h or 7d, at most 366d, or off")
    }
    return number * factor
  }

  /// With the largest unit that divides it.
  static func windowText(seconds: Int?) -> String {
    guard let seconds else { return "off" }
    for (unit, factor) in [("d", 86_400), ("h", 3600), ("m", 60)] where seconds % factor == 0 {
      return "\(seconds / factor)\(unit)"
    }
    return "\(seconds)s"
  }

  private static let sizeUnits: [(name: String, bytes: UInt64)] = [
    ("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10),
  ]

  /// `10GiB`, `512MiB`, `64KiB`, or plain bytes.
  static func size(_ text: String) throws(ValueFault) -> UInt64 {
    let digits = text.prefix { $0.isASCII && $0.isNumber }
    let unit = text.dropFirst(digits.count)
    let factor = unit.isEmpty ? 1 : sizeUnits.first { $0.name == unit }?.bytes
    // What Postgres can count as a difference of positions.
    guard let factor, let number = UInt64(digits), number <= UInt64(Int64.max) / factor else {
      throw ValueFault("\"\(text)\" is not a size", "write 10GiB, 512MiB, 64KiB, or a number of bytes")
    }
    return number * factor
  }

  static func sizeText(_ bytes: UInt64) -> String {
    for unit in sizeUnits where bytes > 0 && bytes % unit.bytes == 0 {
      return "\(bytes / unit.bytes)\(unit.name)"
    }
    return String(bytes)
  }

  static func boolean(_ text: String) throws(ValueFault) -> Bool {
    switch text {
    case "true": return true
    case "false": return false
    default: throw ValueFault("\"\(text)\" is neither true nor false")
    }
  }

  /// `host:port`, `[address]:port`, `:port`; `off` is nil.
  static func address(_ text: String) throws(ValueFault) -> AdminSettings? {
    if text == "off" { return nil }
    let fault = ValueFault("\"\(text)\" is not an address", "write host:port, [::1]:9464, or off")
    guard let colon = text.lastIndex(of: ":") else { throw fault }
    let digits = text[text.index(after: colon)...]
    guard !digits.isEmpty, digits.allSatisfy({ $0.isASCII && $0.isNumber }), let port = UInt16(digits)
    else { throw fault }
    var host = String(text[..<colon])
    if host.hasPrefix("["), host.hasSuffix("]") {
      host = String(host.dropFirst().dropLast())
    } else if host.contains(":") {
      throw fault
    }
    guard !host.contains(where: { $0.isWhitespace || $0 == "[" || $0 == "/" }) else { throw fault }
    return AdminSettings(host: host, port: port)
  }

  /// `schema.table`; a name in double quotes keeps its case, and `""` in it is a quote.
  static func table(_ text: String) throws(ValueFault) -> (schema: String, table: String) {
    var rest = Substring(text)
    let first = try identifier(&rest, of: text)
    guard !rest.isEmpty else {
      throw ValueFault("the table \"\(text)\" has no schema", "write public.\(text)")
    }
    guard rest.popFirst() == "." else { throw ValueFault("\"\(text)\" is not schema.table") }
    let second = try identifier(&rest, of: text)
    guard rest.isEmpty else {
      throw ValueFault("\"\(text)\" is not schema.table", "a name with a dot in it needs double quotes")
    }
    return (first, second)
  }

  private static func identifier(_ rest: inout Substring, of text: String) throws(ValueFault) -> String {
    var name = ""
    if rest.first == "\"" {
      rest.removeFirst()
      while true {
        guard let character = rest.popFirst() else {
          throw ValueFault("\"\(text)\" has an unpaired double quote")
        }
        if character != "\"" {
          name.append(character)
        } else if rest.first == "\"" {
          rest.removeFirst()
          name.append("\"")
        } else {
          break
        }
      }
    } else {
      name = String(rest.prefix { $0 != "." })
      rest = rest.dropFirst(name.count)
      if let character = name.first(where: { $0.isUppercase || $0.isWhitespace || $0 == "\"" || $0 == "-" }) {
        throw ValueFault(
          "the name \(name) has \"\(character)\" in it, which Postgres only keeps in double quotes",
          "write '\"\(name)\"' in place of \(name), or its real name in lower case")
      }
    }
    try checkName(name)
    return name
  }

  /// Names and templates end up in SQL, in logs and on terminals. No control character is in one by intention.
  static func checkPrintable(_ text: String) throws(ValueFault) {
    guard let control = text.unicodeScalars.first(where: PrintableText.isControl) else { return }
    let digits = String(control.value, radix: 16, uppercase: true)
    let code = "U+" + String(repeating: "0", count: max(0, 4 - digits.utf8.count)) + digits
    throw ValueFault(
      "\(PrintableText.quoted(text)) has the control character \(code) in it", "remove it")
  }

  /// A name of Postgres: 1 to 63 bytes, no control character.
  static func checkName(_ text: String) throws(ValueFault) {
    try checkPrintable(text)
    guard (1...63).contains(text.utf8.count) else {
      throw ValueFault("\"\(text)\" is not a name", "a name of Postgres has 1 to 63 bytes")
    }
  }

  static func checkSlotName(_ text: String) throws(ValueFault) {
    let isValid =
      (1...63).contains(text.utf8.count)
      && text.utf8.allSatisfy { (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == 0x5F }
    guard isValid else {
      throw ValueFault("\"\(text)\" is not a slot's name", "use lower-case letters, digits and _, 63 at most")
    }
    // The anchor of one relay must not be the slot of another.
    guard !text.hasSuffix("_anchor"), !text.contains("_replay_") else {
      throw ValueFault(
        "\"\(text)\" is a name that outboxd uses for its other slots",
        "choose a name without _anchor and _replay_")
    }
  }

  /// RFC 2046: `type/subtype`, with parameters.
  static func checkMediaType(_ text: String) throws(ValueFault) {
    func isToken(_ text: Substring) -> Bool {
      !text.isEmpty
        && text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && !"()<>@,;:\\\"/[]?=".utf8.contains($0) }
    }
    let essence = text.prefix { $0 != ";" }
    let parts = essence.split(separator: "/", omittingEmptySubsequences: false)
    let isPrintable = text.unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value < 0x7F }
    let isValid = parts.count == 2 && isToken(parts[0]) && isToken(parts[1].trimmingSpaces) && isPrintable
    guard isValid else {
      throw ValueFault("\"\(text)\" is not a media type", "write for example application/json")
    }
  }

  static func timeZone(_ text: String) throws(ValueFault) -> TimeZoneRules {
    do throws(RelayError) {
      return try TimeZoneDatabase.rules(text)
    } catch {
      throw ValueFault(error.message, error.remedy)
    }
  }

  static func template(_ text: String) throws(ValueFault) -> Template {
    do throws(RelayError) {
      return try Template(text)
    } catch {
      throw ValueFault(error.message, "write a placeholder as {column}, and a brace itself as {{ or }}")
    }
  }

  /// What stands between commas, without the blanks around it. To name nothing is no way to say "all".
  private static func texts(_ text: String) throws(ValueFault) -> [String] {
    let texts = text.split(separator: ",", omittingEmptySubsequences: false).map { part in
      var part = part
      while part.first == " " { part.removeFirst() }
      while part.last == " " { part.removeLast() }
      return String(part)
    }
    guard !texts.contains("") else {
      throw ValueFault(
        "\"\(text)\" has no name, or an empty one", "remove the key for its default")
    }
    return texts
  }

  static func allowedTopics(_ text: String) throws(ValueFault) -> AllowedTopics {
    let patterns = try texts(text)
    for pattern in patterns {
      // A star may stand for no character, and for one that a name may have.
      let shortest = pattern.split(separator: "*").joined()
      switch AllowedTopics().fault(shortest) {
      case .isInternal where pattern.hasPrefix("__"):
        throw ValueFault(
          "\"\(pattern)\" \(TopicFault.isInternal.reason)", "remove it: no event may go there")
      case .name where AllowedTopics().fault("a" + shortest) == .name:
        throw ValueFault(
          "\"\(pattern)\" is not a topic name or a pattern of one",
          "write names of [A-Za-z0-9._-] and *: orders.*")
      default: break
      }
    }
    return AllowedTopics(patterns)
  }

  /// Names and addresses without a port, in lower case.
  static func hosts(_ text: String) throws(ValueFault) -> [String] {
    let names = try texts(text)
    for name in names
    where AdminHosts.name(of: name) != name.lowercased() || name.contains("/")
      || (name.contains(":") && !name.hasPrefix("["))
    {
      throw ValueFault(
        "\"\(name)\" is not the name of a host", "write outboxd.example or [::1], without a port")
    }
    return names.map { $0.lowercased() }
  }

  /// What stands in a topic's template as it is must be fit for a topic's name: `[A-Za-z0-9._-]`, 249 at most. A topic
  /// without placeholders must be an allowed one.
  static func checkTopic(_ template: Template, _ allowed: AllowedTopics) throws(ValueFault) {
    var length = 0
    for case .literal(let text) in template.parts {
      length += text.utf8.count
      let bad = text.unicodeScalars.first {
        !($0.isASCII
          && ($0.properties.isAlphabetic || $0.properties.numericType != nil
            || "._-".unicodeScalars.contains($0)))
      }
      if let bad {
        throw ValueFault(
          "the topic \"\(template)\" has \"\(Character(bad))\" in it",
          "a topic's name is made of [A-Za-z0-9._-]")
      }
    }
    guard length <= 249 else {
      throw ValueFault("the topic has \(length) characters; at most 249 are allowed")
    }
    guard template.description != ".", template.description != ".." else {
      throw ValueFault("\"\(template)\" cannot be a topic's name")
    }
    guard !template.description.hasPrefix("__") else {
      throw ValueFault("the topic \"\(template)\" \(TopicFault.isInternal.reason)")
    }
    if template.placeholders.isEmpty, let fault = allowed.fault(template.description) {
      throw ValueFault("the topic \"\(template)\" \(fault.reason)", "add it there, or correct the topic")
    }
  }

  static func checkExtension(_ name: String) throws(ValueFault) {
    if CloudEventRules.reservedAttributes.contains(name) {
      throw ValueFault(
        "\"\(name)\" is reserved by CloudEvents and cannot be an extension", "choose another name")
    }
    let isValid =
      !name.isEmpty && name.utf8.allSatisfy { (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) }
    guard !isValid else { return }
    let letters = name.lowercased().filter { $0.isASCII && ($0.isLetter || $0.isNumber) }
    throw ValueFault(
      "\"\(name)\" cannot be the name of an attribute: CloudEvents allows [a-z0-9]",
      letters.isEmpty || CloudEventRules.reservedAttributes.contains(letters) ? nil : "write \(letters)")
  }
}

extension Substring {
  fileprivate var trimmingSpaces: Substring {
    var text = self
    while text.last == " " { text.removeLast() }
    return text
  }
}
