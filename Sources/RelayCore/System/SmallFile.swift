// Owns: reading a small file as a whole, and whether other users of the machine may have written it.
// Must not know: what the file is for.
import CSystem
import Glibc

/// A file whose content decides what outboxd does: a configuration, a password, a certificate. Nothing here waits for a
/// writer, and what is examined is the open descriptor, so that no other file can take its place in between.
public enum SmallFile {
  /// Why a file is not read.
  public struct Refusal: Error, Equatable, Sendable {
    /// Follows the file's name: "cannot be read: No such file or directory".
    public var reason: String
    /// Nil where the reason says it.
    public var remedy: String?
  }

  /// Whose the file is.
  public struct Status: Equatable, Sendable {
    public var owner: UInt32
    /// The permission bits, 0 to 0o7777.
    public var mode: UInt32

    /// Everybody on the machine can read it.
    public var isWorldReadable: Bool { mode & 0o004 != 0 }

    /// `owner root, mode 0600`.
    public var text: String { "owner \(SmallFile.userName(owner)), mode \(SmallFile.octal(mode))" }

    public init(owner: UInt32, mode: UInt32) {
      self.owner = owner
      self.mode = mode
    }

    /// Why the content may be another user's: it belongs to neither root nor this process's user, or group or others may write it.
    /// Nil: it is root's or the user's own.
    public func distrust(_ path: String) -> Refusal? {
      let user = geteuid()
      guard owner == 0 || owner == user else {
        return Refusal(
          reason: "belongs to user \(SmallFile.userName(owner)), who can change it",
          remedy: "chown \(SmallFile.userName(user)) \(ShellText.quoted(path))")
      }
      guard mode & 0o022 == 0 else {
        return Refusal(
          reason: "can be written by \(mode & 0o002 == 0 ? "its group" : "every user of the machine") "
            + "(mode \(SmallFile.octal(mode)))",
          remedy: "chmod go-w \(ShellText.quoted(path))")
      }
      return nil
    }
  }

  /// What may be read.
  public enum Rule: Sendable {
    /// A regular file or a folder, whoever owns it.
    case anyOwner
    /// A regular file of root or of the process's own user that nobody else may write.
    case trusted
    /// As `trusted`, or a pipe of such an owner that is being written: `--config <(…)`.
    case trustedOrPipe
  }

  public static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

  /// Opens the file and examines it.
  public static func status(_ path: String, _ rule: Rule = .trusted) throws(Refusal) -> Status {
    let (descriptor, status) = try openFile(path, rule)
    close(descriptor)
    return status
  }

  /// The first `limit` bytes of the file.
  public static func read(_ path: String, _ rule: Rule = .trusted, limit: Int) throws(Refusal) -> [UInt8] {
    try examine(path, rule, limit: limit).bytes
  }

  /// The first `limit` bytes of the file, and whose it is.
  public static func examine(
    _ path: String, _ rule: Rule = .trusted, limit: Int
  ) throws(Refusal) -> (bytes: [UInt8], status: Status) {
    let (descriptor, status) = try openFile(path, rule)
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    let chunk = 16 * 1024
    while bytes.count < limit {
      let wanted = min(chunk, limit - bytes.count)
      var code: Int32 = 0
      let more = [UInt8](unsafeUninitializedCapacity: wanted) { buffer, count in
        // SAFETY: the buffer has room for `wanted` bytes, and read(2) fills at most that many.
        let result = Glibc.read(descriptor, buffer.baseAddress, wanted)
        if result < 0 { code = errno }
        count = max(0, result)
      }
      if code == EINTR { continue }
      guard code == 0 else { throw unreadable(code) }
      if more.isEmpty { break }
      bytes += more
    }
    return (bytes, status)
  }

  /// A secret's file: its content as text, without the newline at its end.
  /// - Parameter limit: in bytes; larger is refused.
  public static func secret(_ path: String, limit: Int) throws(Refusal) -> String {
    var bytes = try read(path, .trusted, limit: limit + 1)
    guard bytes.count <= limit else { throw Refusal(reason: "is larger than \(limit) bytes") }
    if bytes.last == UInt8(ascii: "\n") { bytes.removeLast() }
    if bytes.last == UInt8(ascii: "\r") { bytes.removeLast() }
    return String(decoding: bytes, as: UTF8.self)
  }

  private static func openFile(_ path: String, _ rule: Rule) throws(Refusal) -> (Int32, Status) {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
    guard descriptor >= 0 else { throw unreadable(errno) }
    do throws(Refusal) {
      return (descriptor, try examined(descriptor, path, rule))
    } catch {
      close(descriptor)
      throw error
    }
  }

  private static func examined(_ descriptor: Int32, _ path: String, _ rule: Rule) throws(Refusal) -> Status {
    var information = stat()
    guard fstat(descriptor, &information) == 0 else { throw unreadable(errno) }
    let kind = information.st_mode & S_IFMT
    let isPipe = kind == S_IFIFO && rule == .trustedOrPipe
    let isFolder = kind == S_IFDIR && rule == .anyOwner
    guard kind == S_IFREG || isPipe || isFolder else {
      throw Refusal(reason: "is \(name(of: kind)), not a regular file")
    }
    let status = Status(owner: information.st_uid, mode: UInt32(information.st_mode & 0o7777))
    if rule != .anyOwner, let refusal = status.distrust(path) { throw refusal }
    // Its writer may not be ready yet. Without one, reading ends at once.
    if isPipe { _ = fcntl(descriptor, F_SETFL, 0) }
    return status
  }

  private static func name(of kind: mode_t) -> String {
    switch kind {
    case S_IFDIR: "a directory"
    case S_IFIFO: "a named pipe"
    case S_IFSOCK: "a socket"
    default: "a device"
    }
  }

  private static func unreadable(_ code: Int32) -> Refusal {
    Refusal(reason: "cannot be read: \(errorText(code))")
  }

  /// As the system says it: "No such file or directory".
  public static func errorText(_ code: Int32) -> String {
    // SAFETY: strerror returns a constant, or a buffer of this thread that is copied at once.
    strerror(code).map { String(cString: $0) } ?? "error \(code)"
  }

  /// The user's name, or the number where the system has none.
  public static func userName(_ user: UInt32) -> String {
    var entry = passwd()
    var result: UnsafeMutablePointer<passwd>?
    return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 16 * 1024) { buffer in
      guard let base = buffer.baseAddress,
        getpwuid_r(user, &entry, base, buffer.count, &result) == 0, result != nil, let name = entry.pw_name
      else { return "\(user)" }
      // SAFETY: the entry's texts lie in `buffer`, and are copied before it ends.
      return String(cString: name)
    }
  }

  /// `0600`.
  static func octal(_ mode: UInt32) -> String {
    let digits = String(mode, radix: 8)
    return String(repeating: "0", count: max(0, 4 - digits.utf8.count)) + digits
  }
}
