// Owns: where a program is.
// Must not know: what it does.
import Glibc

enum Executable {
  /// A program on the PATH.
  static func find(_ name: String) -> String? {
    let path = getenv("PATH").map { String(cString: $0) } ?? "/usr/local/bin:/usr/bin:/bin"
    return path.split(separator: ":").map { "\($0)/\(name)" }.first { access($0, X_OK) == 0 }
  }

  /// The path of this program.
  static var this: String {
    resolved("/proc/self/exe") ?? "outboxd"
  }

  /// The path without symbolic links.
  static func resolved(_ path: String) -> String? {
    guard let text = realpath(path, nil) else { return nil }
    defer { free(text) }
    // SAFETY: realpath returns a NUL-terminated text that is ours to free.
    return String(cString: text)
  }
}
