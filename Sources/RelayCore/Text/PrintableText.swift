// Owns: text for terminals, logs, JSON and YAML: what must be escaped, and how.
// Must not know: what is printed.

public enum PrintableText {
  /// What is printed in place of a secret.
  public static let secret = "••••••••"

  /// Control characters as `\u001b`: what a stranger wrote must not steer a terminal.
  /// - Parameter keepsLines: newline and tab are left as they are, for a text of several lines.
  public static func escapingControls(_ text: String, keepsLines: Bool = false) -> String {
    func mustEscape(_ scalar: Unicode.Scalar) -> Bool {
      isControl(scalar) && !(keepsLines && (scalar == "\n" || scalar == "\t"))
    }
    guard text.unicodeScalars.contains(where: mustEscape) else { return text }
    var result = ""
    for scalar in text.unicodeScalars {
      if mustEscape(scalar) { result += escape(scalar) } else { result.unicodeScalars.append(scalar) }
    }
    return result
  }

  /// A JSON string, which is a double-quoted scalar of YAML too.
  public static func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case _ where isControl(scalar): result += escape(scalar)
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }

  /// C0, DEL, C1, the separators of lines and paragraphs, and what changes the direction of the text around it: the
  /// reader would see another order than there is.
  public static func isControl(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0..<0x20, 0x7F...0x9F, 0x061C, 0x200E...0x200F, 0x2028...0x202E, 0x2066...0x2069: true
    default: false
    }
  }

  private static func escape(_ scalar: Unicode.Scalar) -> String {
    switch scalar {
    case "\n": return "\\n"
    case "\r": return "\\r"
    case "\t": return "\\t"
    default:
      let hex = String(scalar.value, radix: 16)
      return "\\u" + String(repeating: "0", count: max(0, 4 - hex.utf8.count)) + hex
    }
  }
}
