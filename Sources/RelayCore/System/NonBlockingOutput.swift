// Owns: writing to standard output or standard error without ever waiting for whoever reads it.
// Must not know: what is written.
import CSystem
import Glibc

/// A pipe, a terminal, a socket or a file that other processes have too: O_NONBLOCK, set on what they share, would hold
/// for all of them, the shell for example. So a pipe or a terminal is opened a second time, and a socket is told at
/// each call. Where a pipe cannot be opened again, as it belongs to another user, it is asked before each piece.
public struct NonBlockingOutput: ~Copyable, Sendable {
  private enum Kind { case plain, socket, opened, asked }

  private let descriptor: Int32
  private let kind: Kind

  /// What a pipe takes as a whole, or not at all.
  private static let pieceSize = 4096

  public init(_ descriptor: Int32) {
    var status = stat()
    let isKnown = fstat(descriptor, &status) == 0
    switch isKnown ? status.st_mode & S_IFMT : S_IFREG {
    case S_IFSOCK: (self.descriptor, kind) = (descriptor, .socket)
    case S_IFIFO,
      S_IFCHR where isatty(descriptor) == 1:
      let again = open("/proc/self/fd/\(descriptor)", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)
      (self.descriptor, kind) = again >= 0 ? (again, .opened) : (descriptor, .asked)
    default: (self.descriptor, kind) = (descriptor, .plain)
    }
  }

  deinit { if kind == .opened { close(descriptor) } }

  /// Writes as much as is taken now, and returns how much that is. Negative where it cannot be written at all, with
  /// the reason in errno.
  public func write(_ bytes: UnsafeRawBufferPointer) -> Int {
    var written = 0
    while written < bytes.count {
      let count = writeOnce(UnsafeRawBufferPointer(rebasing: bytes[written...]))
      if count < 0, errno == EINTR { continue }
      if count < 0, errno != EAGAIN { return written > 0 ? written : -1 }
      guard count > 0 else { return written }
      written += count
    }
    return written
  }

  /// Waits until something may be taken. False: not within `milliseconds`.
  public func wait(milliseconds: Int32) -> Bool {
    var entry = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
    return poll(&entry, 1, milliseconds) > 0
  }

  private func writeOnce(_ bytes: UnsafeRawBufferPointer) -> Int {
    // SAFETY (all calls): the bytes live for the call, which reads `count` of them at most.
    switch kind {
    case .socket:
      return send(descriptor, bytes.baseAddress, bytes.count, Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL))
    case .plain, .opened: return Glibc.write(descriptor, bytes.baseAddress, bytes.count)
    case .asked:
      guard wait(milliseconds: 0) else { return 0 }
      return Glibc.write(descriptor, bytes.baseAddress, min(bytes.count, Self.pieceSize))
    }
  }
}
