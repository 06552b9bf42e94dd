// Owns: reading a small file, and saying why it cannot be read.
// Must not know: what the file is for.
import Glibc

enum FileContents {
  struct Failure: Error, Equatable {
    /// As the system says it: "No such file or directory".
    var reason: String
  }

  struct Status {
    var isWorldReadable: Bool
  }

  static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

  /// Opens the file and looks at it: it must be readable and no directory.
  static func status(_ path: String) throws(Failure) -> Status {
    // Without waiting: a fifo that nobody writes must not stop the start.
    let descriptor = try openFile(path, flags: O_NONBLOCK)
    defer { close(descriptor) }
    var information = stat()
    guard fstat(descriptor, &information) == 0 else { throw Failure(reason: errorText()) }
    guard information.st_mode & S_IFMT != S_IFDIR else { throw Failure(reason: "it is a directory") }
    return Status(isWorldReadable: information.st_mode & S_IROTH != 0)
  }

  /// The first `limit` bytes of the file.
  static func read(_ path: String, limit: Int) throws(Failure) -> [UInt8] {
    let descriptor = try openFile(path, flags: 0)
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    let chunk = 16 * 1024
    while bytes.count < limit {
      let wanted = min(chunk, limit - bytes.count)
      var problem: String?
      let more = [UInt8](unsafeUninitializedCapacity: wanted) { buffer, count in
        // SAFETY: the buffer has room for `wanted` bytes, and read(2) fills at most that many.
        let result = Glibc.read(descriptor, buffer.baseAddress, wanted)
        if result < 0 { problem = errorText() }
        count = max(0, result)
      }
      if let problem { throw Failure(reason: problem) }
      if more.isEmpty { break }
      bytes += more
    }
    return bytes
  }

  private static func openFile(_ path: String, flags: Int32) throws(Failure) -> Int32 {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | flags)
    guard descriptor >= 0 else { throw Failure(reason: errorText()) }
    return descriptor
  }

  static func errorText(_ code: Int32 = errno) -> String {
    // SAFETY: strerror returns a constant, or a buffer of this thread that is copied at once.
    strerror(code).map { String(cString: $0) } ?? "error \(code)"
  }
}
