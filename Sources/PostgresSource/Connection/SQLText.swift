// Owns: quoting of names and texts in SQL, its comments, and replication commands.
// Must not know: any statement.
import RelayCore

enum SQLText {
  /// `"name"`, always quoted, so that keywords and capitals keep their meaning.
  static func identifier(_ name: String) -> String {
    "\"" + doubled(name, "\"") + "\""
  }

  static func qualified(_ schema: String, _ name: String) -> String {
    identifier(schema) + "." + identifier(name)
  }

  /// `'text'`, safe with every setting of `standard_conforming_strings`.
  static func literal(_ text: String) -> String {
    let quoted = "'" + doubled(text, "'") + "'"
    return text.unicodeScalars.contains("\\") ? "E" + doubled(quoted, "\\") : quoted
  }

  /// `$outboxd$body$outboxd$`, with a tag that the body does not hold. The server compares bytes: a combining character
  /// behind it makes no other tag.
  static func dollarQuoted(_ body: String) -> String {
    let bytes = Array(body.utf8)
    var tag = "$outboxd$"
    var number = 0
    while holds(bytes, Array(tag.utf8)) {
      number += 1
      tag = "$outboxd\(number)$"
    }
    return tag + body + tag
  }

  private static func holds(_ bytes: [UInt8], _ tag: [UInt8]) -> Bool {
    bytes.indices.contains { bytes[$0...].starts(with: tag) }
  }

  /// `-- text`, of one line whatever the text.
  static func comment(_ text: String) -> String { "-- " + PrintableText.escapingControls(text) }

  private static func doubled(_ text: String, _ character: Character) -> String {
    var result = ""
    for each in text.unicodeScalars {
      result.unicodeScalars.append(each)
      if Character(each) == character { result.unicodeScalars.append(each) }
    }
    return result
  }
}
