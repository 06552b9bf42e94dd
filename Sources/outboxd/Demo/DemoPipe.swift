// Owns: a pipe between the demo and a program that it starts.
// Must not know: what goes through it.
import CSystem
import Glibc
import RelayCore

/// A pipe that programs started elsewhere do not inherit.
struct DemoPipe {
  let reading: Int32
  let writing: Int32

  /// - Throws: `failed`.
  init() throws(RelayError) {
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else {
      throw RelayError(.failed, "no pipe: \(String(cString: strerror(errno)))")
    }
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    reading = ends[0]
    writing = ends[1]
  }

  /// The first line, without its end. Nil: it did not come in time.
  func readLine(milliseconds: Int) -> String? {
    let deadline = MonotonicTime.now().advanced(milliseconds: milliseconds)
    var line: [UInt8] = []
    while line.last != UInt8(ascii: "\n") {
      var entry = pollfd(fd: reading, events: Int16(POLLIN), revents: 0)
      let left = MonotonicTime.now().milliseconds(until: deadline, limit: 60_000)
      guard left > 0, poll(&entry, 1, Int32(left)) > 0 else { return nil }
      var byte: UInt8 = 0
      // SAFETY: read(2) writes one byte at most.
      guard read(reading, &byte, 1) == 1 else { return nil }
      line.append(byte)
    }
    return String(decoding: line.dropLast(), as: UTF8.self)
  }
}
