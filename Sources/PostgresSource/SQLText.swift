// Owns: quoting of names and texts in SQL and in replication commands.
// Must not know: any statement.

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
    return text.contains("\\") ? "E" + doubled(quoted, "\\") : quoted
  }

  /// `$outboxd$body$outboxd$`, with a tag that the body does not hold.
  static func dollarQuoted(_ body: String) -> String {
    var tag = "$outboxd$"
    var number = 0
    while body.contains(tag) {
      number += 1
      tag = "$outboxd\(number)$"
    }
    return tag + body + tag
  }

  private static func doubled(_ text: String, _ character: Character) -> String {
    var result = ""
    for each in text.unicodeScalars {
      result.unicodeScalars.append(each)
      if Character(each) == character { result.unicodeScalars.append(each) }
    }
    return result
  }
}
