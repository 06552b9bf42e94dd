// Owns: the name of a table in messages, in the form in which options and the configuration take it.
// Must not know: SQL, but for its quotes.

public enum QualifiedName {
  /// `schema.table`, each name in double quotes where SQL would read it otherwise.
  public static func text(_ schema: String, _ table: String) -> String { part(schema) + "." + part(table) }

  private static func part(_ name: String) -> String {
    let isPlain =
      name.utf8.first.map { !(0x30...0x39).contains($0) } ?? false
      && name.utf8.allSatisfy {
        (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == 0x5F
      }
    if isPlain { return name }
    return "\"" + name.unicodeScalars.map { $0 == "\"" ? "\"\"" : String($0) }.joined() + "\""
  }
}
