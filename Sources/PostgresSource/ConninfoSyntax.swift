// Owns: the question whether libpq understands a conninfo, asked before anything connects.
import CLibpq

extension PostgresSettings {
  /// libpq's own words for what is wrong in the text, or nil. Never holds a value of the text.
  public static func conninfoProblem(_ conninfo: String) -> String? {
    var message: UnsafeMutablePointer<CChar>?
    // SAFETY: libpq copies the text; what it returns is freed below, and each pointer is NULL or allocated.
    let options = PQconninfoParse(conninfo, &message)
    defer {
      PQconninfoFree(options)
      PQfreemem(message)
    }
    guard options == nil else { return nil }
    let text = message.map { String(cString: $0) } ?? "libpq does not understand it"
    // The other messages quote a piece of the text, which may be a piece of a password.
    if text.hasPrefix("invalid connection option") || text.hasPrefix("invalid URI query parameter:")
      || !text.contains("\"")
    {
      return String(text.prefix { $0 != "\n" })
    }
    if text.hasPrefix("missing \"=\"") { return "a word without = stands in it" }
    return "libpq cannot read it; write keyword=value pairs, or a postgresql:// URI"
  }
}
