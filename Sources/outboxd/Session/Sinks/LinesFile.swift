// Owns: a new file that must be on the disk before something is given up.
// Must not know: what is written.
import Glibc
import RelayCore

/// A file that only its owner reads. Never overwrites one.
final class LinesFile {
  private(set) var path: String
  private let descriptor: Int32
  private var buffer: [UInt8] = []

  private static let writeSize = 256 * 1024

  /// - Throws: `usage` where there is a file of that name; `failed` with the system's reason.
  init(path: String) throws(RelayError) {
    self.path = path
    descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else {
      let code = errno
      guard code == EEXIST else { throw Self.failure("cannot be created", path, code) }
      throw RelayError(
        .usage, "the file \(path) exists",
        remedy: "Name another file with --to-file, or remove it: nothing is overwritten.")
    }
  }

  deinit { close(descriptor) }

  func append(contentsOf bytes: some Sequence<UInt8>) throws(RelayError) {
    buffer.append(contentsOf: bytes)
    if buffer.count >= Self.writeSize { try flush() }
  }

  /// Everything is on the disk when this returns, the file's name in its folder too.
  func synchronize() throws(RelayError) {
    try flush()
    guard fsync(descriptor) == 0 else { throw Self.failure("cannot be flushed to disk", path, errno) }
    try synchronizeFolder()
  }

  /// Within its folder, also on the disk. A file of that name is replaced.
  func rename(to name: String) throws(RelayError) {
    guard Glibc.rename(path, name) == 0 else { throw Self.failure("cannot be created", name, errno) }
    path = name
    try synchronizeFolder()
  }

  private func synchronizeFolder() throws(RelayError) {
    let parts = path.split(separator: "/", omittingEmptySubsequences: false)
    let name = parts.dropLast().joined(separator: "/")
    let folder = open(name.isEmpty ? (path.hasPrefix("/") ? "/" : ".") : name, O_RDONLY | O_CLOEXEC)
    guard folder >= 0 else { throw Self.failure("cannot be flushed to disk", path, errno) }
    defer { close(folder) }
    guard fsync(folder) == 0 else { throw Self.failure("cannot be flushed to disk", path, errno) }
  }

  func remove() { unlink(path) }

  /// The path from the root, for a reader elsewhere.
  static func absolute(_ path: String) -> String {
    // SAFETY: realpath(3) returns a text that is the caller's to free, or NULL.
    guard let full = realpath(path, nil) else { return path }
    defer { free(full) }
    return String(cString: full)
  }

  private func flush() throws(RelayError) {
    var written = 0
    while written < buffer.count {
      let count = buffer.withUnsafeBytes { bytes in
        // SAFETY: `written` is below the buffer's count, and write(2) reads no more than what is left of it.
        Glibc.write(descriptor, bytes.baseAddress.map { $0 + written }, bytes.count - written)
      }
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { throw Self.failure("cannot be written", path, errno) }
      written += count
    }
    buffer.removeAll(keepingCapacity: true)
  }

  private static func failure(_ what: String, _ path: String, _ code: Int32) -> RelayError {
    RelayError(.failed, "\(path) \(what): \(String(cString: strerror(code)))")
  }
}
