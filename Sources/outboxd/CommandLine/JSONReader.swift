// Owns: reading JSON (RFC 8259) that another outboxd wrote.
// Must not know: what it says.

extension JSONValue {
  /// The member of that name; nil where there is none, and in what is no object.
  subscript(name: String) -> JSONValue? {
    guard case .object(let members) = self else { return nil }
    return members.first { $0.name == name }?.value
  }

  var string: String? { if case .text(let text) = self { text } else { nil } }
}

/// Any text is read without harm; what is not JSON is nil.
struct JSONReader {
  private static let maximumDepth = 32

  private var rest: Substring.UnicodeScalarView

  static func value(of text: String) -> JSONValue? {
    var reader = JSONReader(rest: Substring(text).unicodeScalars)
    guard let value = reader.value(depth: 0) else { return nil }
    reader.skipSpace()
    return reader.rest.isEmpty ? value : nil
  }

  private mutating func skipSpace() {
    while let scalar = rest.first, " \t\r\n".unicodeScalars.contains(scalar) { rest.removeFirst() }
  }

  /// Steps over `scalar` after white space. False if something else stands there.
  private mutating func take(_ scalar: Unicode.Scalar) -> Bool {
    skipSpace()
    guard rest.first == scalar else { return false }
    rest.removeFirst()
    return true
  }

  private mutating func value(depth: Int) -> JSONValue? {
    guard depth < Self.maximumDepth else { return nil }
    skipSpace()
    switch rest.first {
    case "{": return object(depth: depth)
    case "[": return array(depth: depth)
    case "\"": return text().map { .text($0) }
    default: return word()
    }
  }

  private mutating func object(depth: Int) -> JSONValue? {
    guard take("{") else { return nil }
    var members: [JSONValue.Member] = []
    if take("}") { return .object(members) }
    repeat {
      skipSpace()
      guard let name = text(), take(":"), let value = value(depth: depth + 1) else { return nil }
      members.append(JSONValue.Member(name, value))
    } while take(",")
    return take("}") ? .object(members) : nil
  }

  private mutating func array(depth: Int) -> JSONValue? {
    guard take("[") else { return nil }
    var items: [JSONValue] = []
    if take("]") { return .array(items) }
    repeat {
      guard let item = value(depth: depth + 1) else { return nil }
      items.append(item)
    } while take(",")
    return take("]") ? .array(items) : nil
  }

  private mutating func text() -> String? {
    guard take("\"") else { return nil }
    var text = String.UnicodeScalarView()
    while let scalar = rest.popFirst() {
      switch scalar {
      case "\"": return String(text)
      case "\\":
        guard let escaped = escape() else { return nil }
        text.append(escaped)
      case _ where scalar.value < 0x20: return nil
      default: text.append(scalar)
      }
    }
    return nil
  }

  /// What follows a backslash. Beyond the basic plane outboxd writes no escapes; they are not read.
  private mutating func escape() -> Unicode.Scalar? {
    switch rest.popFirst() {
    case "\"": "\""
    case "\\": "\\"
    case "/": "/"
    case "b": "\u{8}"
    case "f": "\u{C}"
    case "n": "\n"
    case "r": "\r"
    case "t": "\t"
    case "u": hexadecimal()
    default: nil
    }
  }

  private mutating func hexadecimal() -> Unicode.Scalar? {
    var value: UInt32 = 0
    for _ in 0..<4 {
      guard let scalar = rest.popFirst(), let digit = Character(scalar).hexDigitValue, scalar.isASCII else {
        return nil
      }
      value = value << 4 | UInt32(digit)
    }
    return Unicode.Scalar(value)
  }

  /// `true`, `false`, `null` or a number.
  private mutating func word() -> JSONValue? {
    var word = ""
    while let scalar = rest.first, scalar.isASCII,
      scalar.properties.isAlphabetic || "+-.0123456789".unicodeScalars.contains(scalar)
    {
      word.unicodeScalars.append(scalar)
      rest.removeFirst()
    }
    switch word {
    case "true": return .boolean(true)
    case "false": return .boolean(false)
    case "null": return .null
    default:
      guard let first = word.unicodeScalars.first, "-0123456789".unicodeScalars.contains(first) else {
        return nil
      }
      if let integer = Int64(word) { return .integer(integer) }
      if let integer = UInt64(word) { return .unsigned(integer) }
      return Double(word).map { .number($0) }
    }
  }
}
