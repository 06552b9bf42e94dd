// Owns: the text form of a template, `orders.v{schemaversion}`.
// Must not know: rows. `RowPlan` binds the placeholders to columns.

/// Literal text and placeholders in braces. `{{` and `}}` stand for the braces themselves.
public struct Template: Equatable, Sendable, CustomStringConvertible {
  public enum Part: Equatable, Sendable {
    case literal(String)
    case placeholder(String)
  }

  public let description: String
  public let parts: [Part]

  public static let defaultSource = Template(parts: [
    .literal("/"), .placeholder("database"), .literal("/"), .placeholder("schema"), .literal("/"),
    .placeholder("table"),
  ])
  public static let defaultTopic = Template(parts: [
    .literal("outbox.event."), .placeholder("aggregatetype"),
  ])
  public static let defaultKey = Template(parts: [.placeholder("aggregateid")])

  public init(parts: [Part]) {
    self.parts = parts
    description = parts.map { part in
      switch part {
      case .literal(let text):
        text.split(separator: "{", omittingEmptySubsequences: false).joined(separator: "{{")
          .split(separator: "}", omittingEmptySubsequences: false).joined(separator: "}}")
      case .placeholder(let name): "{\(name)}"
      }
    }.joined()
  }

  /// - Throws: `configurationInvalid` with the reason: an unclosed or empty placeholder, a lone `}`.
  public init(_ text: String) throws(RelayError) {
    var parts: [Part] = []
    var literal = ""
    var rest = Substring(text)
    func invalid(_ reason: String) -> RelayError {
      RelayError(
        .configurationInvalid, "the template \"\(text)\" \(reason)",
        remedy: "Write a placeholder as {column}, and a brace itself as {{ or }}.")
    }
    while let character = rest.popFirst() {
      switch character {
      case "{" where rest.first == "{", "}" where rest.first == "}":
        rest.removeFirst()
        literal.append(character)
      case "{":
        guard let end = rest.firstIndex(of: "}") else { throw invalid("has a { without its }") }
        let name = String(rest[..<end])
        guard !name.isEmpty, !name.contains("{") else { throw invalid("has an empty or nested {}") }
        if !literal.isEmpty { parts.append(.literal(literal)) }
        literal = ""
        parts.append(.placeholder(name))
        rest = rest[rest.index(after: end)...]
      case "}":
        throw invalid("has a } without its {")
      default:
        literal.append(character)
      }
    }
    if !literal.isEmpty { parts.append(.literal(literal)) }
    self.init(parts: parts)
  }

  public var placeholders: [String] {
    parts.compactMap { if case .placeholder(let name) = $0 { name } else { nil } }
  }
}
