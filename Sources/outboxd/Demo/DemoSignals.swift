// Owns: Ctrl-C during the demo, its pipes and its port.
// Must not know: what is stopped.
import CSystem
import Glibc
import RelayCore

/// SIGINT, SIGTERM and SIGHUP, looked for where the demo waits. To be made on the main thread before any
/// other thread.
final class DemoSignals {
  private(set) var stop = StopSignal()
  private(set) var wasInterrupted = false
  private let signals: SignalWatch

  /// - Throws: `failed`.
  init() throws(RelayError) {
    signals = try SignalWatch()
  }

  /// Requests the stop if a signal has come.
  func look() {
    guard signals.next() != nil else { return }
    wasInterrupted = true
    stop.request()
  }

  /// - Throws: `interrupted` if a signal has come.
  func check() throws(RelayError) {
    look()
    if stop.isRequested { throw RelayError(.interrupted, "the demo was interrupted") }
  }

  /// The next signal is a second one.
  func forgive() { stop = StopSignal() }
}

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

/// The admin server's port, and whether it says that the relay is ready.
enum DemoPort {
  /// A port of 127.0.0.1 that was free a moment ago.
  /// - Throws: `failed`.
  static func free() throws(RelayError) -> UInt16 {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(descriptor) }
    var address = loopback(port: 0)
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let result = withUnsafeMutablePointer(to: &address) { pointer in
      // SAFETY: a sockaddr_in is passed as the sockaddr that it begins with, and its own size with it.
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
        bind(descriptor, generic, length) == 0 && getsockname(descriptor, generic, &length) == 0
      }
    }
    guard result else { throw RelayError(.failed, "no free port: \(String(cString: strerror(errno)))") }
    return UInt16(bigEndian: address.sin_port)
  }

  /// True if the outboxd there says that it is ready.
  static func answersReady(_ port: UInt16) -> Bool {
    AdminClient(settings: AdminSettings(port: port)).status()?.contains("\"ready\": true") ?? false
  }

  private static func loopback(port: UInt16) -> sockaddr_in {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr = in_addr(s_addr: UInt32(0x7F00_0001).bigEndian)
    return address
  }
}
