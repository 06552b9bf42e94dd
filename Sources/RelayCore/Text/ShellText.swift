// Owns: words of a command line that somebody is told to type.
// Must not know: which command.

public enum ShellText {
  /// As it is where no shell sees anything in it, else in single quotes.
  public static func quoted(_ text: String) -> String {
    let isPlain =
      !text.isEmpty
      && text.utf8.allSatisfy { byte in
        (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
          || "._-/:@%+,".utf8.contains(byte)
      }
    guard !isPlain else { return text }
    // By scalars: a combining character that follows a quote hides it from a comparison of characters.
    return "'" + text.unicodeScalars.map { $0 == "'" ? "'\\''" : String($0) }.joined() + "'"
  }
}
