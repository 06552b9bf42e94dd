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

  /// To be called before anything else where signals are watched later: what comes meanwhile waits, also while the
  /// process starts itself again.
  static func block() { outboxd_block_signals() }

  /// For commands that watch no signals, or only later: process 1 of a container gets none that has no handler.
  static func endAtOnce() {
    guard getpid() == 1 else { return }
    for number in [SIGTERM, SIGINT, SIGHUP] {
      signal(number) { _ in _exit(RelayError.Kind.interrupted.exitCode) }
    }
  }

  /// Signals end the process from here on: what is left to do is to print, for a reader who may not read.
  func end() {
    while next() != nil {}
    close(descriptor)
    outboxd_unblock_signals()
  }

  /// The first signal asks for an end in good order, the second ends the process at once. Returns when `finished`
  /// is requested.
  /// - Parameters:
  ///   - lastWords: logged where the process ends at once.
  ///   - milliseconds: how often `tick` is called at least; −1: never.
  func serve(
    stop: StopSignal, finished: StopSignal, log: Log, lastWords: String, every milliseconds: Int = -1,
    tick: () -> Void = {}
  ) {
    while !finished.isRequested {
      guard let signal = wait(orUntil: finished, milliseconds: milliseconds) else {
        tick()
        continue
      }
      if stop.isRequested {
        // `timeout` and terminals send one signal to the process and to its group: that is one request.
        guard MonotonicTime.now() > stop.requestTime.advanced(milliseconds: 500) else { continue }
        log.warning(lastWords)
        _exit(RelayError.Kind.interrupted.exitCode)
      }
      log.info("stopping", ("signal", Self.name(of: signal)))
      stop.request()
    }
  }

  private static func name(of signal: Int32) -> String {
    switch signal {
    case SIGTERM: "SIGTERM"
    case SIGHUP: "SIGHUP"
    default: "SIGINT"
    }
  }

  /// Waits for a signal, until `finished` is requested, or for `milliseconds`; −1 is without end. The signal's
  /// number, nil where none came.
  private func wait(orUntil finished: StopSignal, milliseconds: Int) -> Int32? {
    var entries = (
      pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0),
      pollfd(fd: finished.descriptor, events: Int16(POLLIN), revents: 0)
    )
    withUnsafeMutableBytes(of: &entries) { bytes in
      // SAFETY: a tuple of two pollfd is laid out as an array of two; it lives for the call.
      _ = poll(bytes.baseAddress?.assumingMemoryBound(to: pollfd.self), 2, Int32(milliseconds))
    }
    return next()
  }

  /// The number of a signal that has come, nil if none has.
  func next() -> Int32? {
    let signal = outboxd_next_signal(descriptor)
    return signal == 0 ? nil : signal
  }
}
