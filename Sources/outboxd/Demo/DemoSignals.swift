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
