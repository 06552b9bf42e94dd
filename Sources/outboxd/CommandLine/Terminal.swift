// Owns: standard output and standard error, and whether they are terminals.
// Must not know: what is printed.
import Glibc
import RelayCore

enum Terminal {
  /// Writes all of it, or as much as the reader takes: one that went away (`| head`) is no failure. Control characters
  /// other than newline and tab are escaped.
  static func printOutput(_ text: String) { write(safe(text), to: STDOUT_FILENO) }

  /// Writes all of it, or as much as is read within a second. Control characters are escaped as in `printOutput`.
  static func printError(_ text: String) { writeError(safe(text)) }

  /// For text that steers the terminal by itself, as bold headings do. Names in it must be escaped already.
  static func printStyledOutput(_ text: String) { write(text, to: STDOUT_FILENO) }

  /// As `printStyledOutput`, on standard error.
  static func printStyledError(_ text: String) { writeError(text) }

  private static func safe(_ text: String) -> String {
    PrintableText.escapingControls(text, keepsLines: true)
  }

  /// How long a message waits for a reader of standard error, in milliseconds.
  private static let patience = 1_000

  /// A process at its end must not wait for a reader.
  private static func writeError(_ text: String) {
    let output = NonBlockingOutput(STDERR_FILENO)
    let deadline = MonotonicTime.now().advanced(milliseconds: patience)
    Array(text.utf8).withUnsafeBytes { bytes in
      var written = 0
      while written < bytes.count {
        let count = output.write(UnsafeRawBufferPointer(rebasing: bytes[written...]))
        guard count >= 0 else { return }
        written += count
        if written == bytes.count { return }
        let left = MonotonicTime.now().milliseconds(until: deadline, limit: patience)
        guard left > 0, output.wait(milliseconds: Int32(left)) else { return }
      }
    }
  }

  /// Bold and the like: only for a terminal, and not where NO_COLOR is set (no-color.org).
  static func wantsStyle(_ descriptor: Int32, environment: [String: String]) -> Bool {
    isatty(descriptor) == 1 && (environment["NO_COLOR"] ?? "").isEmpty && environment["TERM"] != "dumb"
  }

  private static func write(_ text: String, to descriptor: Int32) {
    var text = text
    text.withUTF8 { bytes in
      var rest = UnsafeRawBufferPointer(bytes)
      while !rest.isEmpty {
        // SAFETY: the bytes live for the duration of the closure, and write(2) reads `count` of them.
        let count = Glibc.write(descriptor, rest.baseAddress, rest.count)
        if count < 0, errno == EINTR { continue }
        guard count > 0 else { return }
        rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(count))
      }
    }
  }
}
