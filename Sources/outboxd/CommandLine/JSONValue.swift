// Owns: JSON as the commands and the admin server write it. Members keep their order.
// Must not know: what is written. Nothing on the relay's way uses it.
import RelayCore

enum JSONValue: Equatable, Sendable {
  case null
  case boolean(Bool)
  case integer(Int64)
  case unsigned(UInt64)
  /// Not a number and the infinities are written as null.
  case number(Double)
  case text(String)
  case array([JSONValue])
  case object([Member])

  struct Member: Equatable, Sendable {
    var name: String
    var value: JSONValue

    init(_ name: String, _ value: JSONValue) {
      self.name = name
      self.value = value
    }
  }

  static func optional(_ text: String?) -> JSONValue { text.map { .text($0) } ?? .null }

  static func texts(_ texts: [String]) -> JSONValue { .array(texts.map { .text($0) }) }

  var integer: Int64? { if case .integer(let number) = self { number } else { nil } }

  /// Empty for what is no array.
  var items: [JSONValue] { if case .array(let items) = self { items } else { [] } }

  /// On one line.
  var compact: String { render(indent: nil, depth: 0) }

  /// With two spaces for each level, and a newline at the end.
  var pretty: String { render(indent: 2, depth: 0) + "\n" }

  private func render(indent: Int?, depth: Int) -> String {
    switch self {
    case .null: "null"
    case .boolean(let value): value ? "true" : "false"
    case .integer(let value): String(value)
    case .unsigned(let value): String(value)
    case .number(let value): value.isFinite ? "\(value)" : "null"
    case .text(let text): PrintableText.quoted(text)
    case .array(let items):
      Self.block("[", items.map { $0.render(indent: indent, depth: depth + 1) }, "]", indent, depth)
    case .object(let members):
      Self.block(
        "{",
        members.map {
          PrintableText.quoted($0.name) + (indent == nil ? ":" : ": ")
            + $0.value.render(indent: indent, depth: depth + 1)
        }, "}", indent, depth)
    }
  }

  private static func block(
    _ open: String, _ items: [String], _ close: String, _ indent: Int?, _ depth: Int
  ) -> String {
    guard !items.isEmpty else { return open + close }
    guard let indent else { return open + items.joined(separator: ",") + close }
    let inner = "\n" + String(repeating: " ", count: indent * (depth + 1))
    let outer = "\n" + String(repeating: " ", count: indent * depth)
    return open + inner + items.joined(separator: "," + inner) + outer + close
  }
}

extension JSONValue? {
  /// The texts of an array; empty for anything else.
  var texts: [String] { self?.items.compactMap(\.string) ?? [] }
}
