// Owns: reading a small file that holds a secret.
// Must not know: which property the secret belongs to.
import Glibc

/// A small file that holds a secret.
enum SecretFile {
  struct Unreadable: Error, Equatable { var reason: String }

  static let limit = 1 << 20

  /// The content without its trailing newline.
  static func read(_ path: String) -> Result<String, Unreadable> {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      return .failure(Unreadable(reason: "is in the file \(path), which cannot be read: \(systemReason())"))
    }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: limit + 1)
    var count = 0
    while count < bytes.count {
      let chunk = bytes.withUnsafeMutableBytes { buffer in
        // SAFETY: `count` is below the buffer's size, and read(2) writes at most what is left of it.
        Glibc.read(descriptor, buffer.baseAddress?.advanced(by: count), buffer.count - count)
      }
      if chunk < 0 {
        return .failure(Unreadable(reason: "is in the file \(path), which cannot be read: \(systemReason())"))
      }
      if chunk == 0 { break }
      count += chunk
    }
    guard count <= limit else {
      return .failure(Unreadable(reason: "is in the file \(path), which is larger than 1 MiB"))
    }
    bytes.removeSubrange(count...)
    if bytes.last == UInt8(ascii: "\n") { bytes.removeLast() }
    if bytes.last == UInt8(ascii: "\r") { bytes.removeLast() }
    return .success(String(decoding: bytes, as: UTF8.self))
  }

  private static func systemReason() -> String {
    // SAFETY: strerror returns a NUL-terminated text that is copied before another call.
    String(cString: strerror(errno))
  }
}
