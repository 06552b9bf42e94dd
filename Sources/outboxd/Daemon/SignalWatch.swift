// Owns: the signals that end the process, as a descriptor.
// Must not know: what ending means.
import CSystem
import Glibc
import RelayCore

/// SIGTERM, SIGINT and SIGHUP are blocked in every thread started afterwards, and read here.
struct SignalWatch {
  private let descriptor: Int32

  /// To be made before any other thread.
  /// - Throws: `failed`.
  init() throws(RelayError) {
    descriptor = outboxd_watch_signals()
    guard descriptor >= 0 else {
      throw RelayError(.failed, "signals cannot be watched: \(String(cString: strerror(errno)))")
    }
  }

  /// Waits for a signal, or until `finished` is requested. The signal's number, nil for `finished`.
  func wait(orUntil finished: StopSignal) -> Int32? {
    while true {
      var entries = (
        pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0),
        pollfd(fd: finished.descriptor, events: Int16(POLLIN), revents: 0)
      )
      withUnsafeMutableBytes(of: &entries) { bytes in
        // SAFETY: a tuple of two pollfd is laid out as an array of two; it lives for the call.
        _ = poll(bytes.baseAddress?.assumingMemoryBound(to: pollfd.self), 2, -1)
      }
      if let signal = next() { return signal }
      if finished.isRequested { return nil }
    }
  }

  /// The number of a signal that has come, nil if none has.
  func next() -> Int32? {
    let signal = outboxd_next_signal(descriptor)
    return signal == 0 ? nil : signal
  }
}
