// Owns: `${VAR}`, `${VAR:-default}` and `$$` in a value of the configuration file.
// Must not know: which value it is. Expansion comes after parsing, so a variable cannot add structure.

enum Expansion {
  struct Failure: Error, Equatable {
    var message: String
    var suggestion: String
  }

  /// The text with its variables replaced. Any other `$` stands for itself.
  static func expand(_ text: String, environment: [String: String]) throws(Failure) -> String {
    guard text.contains("$") else { return text }
    var result = ""
    var rest = Substring(text)
    while let character = rest.popFirst() {
      guard character == "$", let next = rest.first, next == "$" || next == "{" else {
        result.append(character)
        continue
      }
      rest.removeFirst()
      if next == "$" {
        result.append("$")
        continue
      }
      guard let end = rest.firstIndex(of: "}") else {
        throw Failure(
          message: "${ without its }", suggestion: "write $$ for a dollar sign before a brace")
      }
      result += try value(of: rest[..<end], environment: environment)
      rest = rest[rest.index(after: end)...]
    }
    return result
  }

  /// What of the text stands in the file itself.
  static func withoutVariables(_ text: String) -> String {
    var result = ""
    var rest = Substring(text)
    while let start = rest.firstRange(of: "${") {
      result += rest[..<start.lowerBound]
      rest = rest[start.upperBound...].drop { $0 != "}" }.dropFirst()
    }
    return result + rest
  }

  private static func value(
    of expression: Substring, environment: [String: String]
  ) throws(Failure) -> String {
    var name = expression
    var fallback: Substring?
    if let colon = expression.firstIndex(of: ":") {
      name = expression[..<colon]
      let operation = expression[colon...]
      guard operation.hasPrefix(":-") else {
        throw Failure(
          message: "${\(expression)} is not a valid variable", suggestion: "write ${VAR} or ${VAR:-default}")
      }
      fallback = operation.dropFirst(2)
    }
    let isName =
      name.utf8.first.map { !(0x30...0x39).contains($0) } ?? false
      && name.utf8.allSatisfy {
        (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == 0x5F
      }
    guard isName else {
      throw Failure(
        message: "${\(expression)} is not a valid variable", suggestion: "write ${VAR} or ${VAR:-default}")
    }
    let value = environment[String(name)]
    if let fallback { return value.flatMap { $0.isEmpty ? nil : $0 } ?? String(fallback) }
    guard let value else {
      throw Failure(
        message: "the environment variable \(name) is not set",
        suggestion: "set it, or write ${\(name):-default}")
    }
    return value
  }
}
