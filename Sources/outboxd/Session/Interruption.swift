// Owns: work of a command that a signal can end in good order.
// Must not know: what the work is.
import RelayCore
import Synchronization

enum Interruption {
  private final class Outcome<Value: Sendable>: Sendable {
    let value = Mutex<Result<Value, RelayError>?>(nil)
  }

  /// Runs `work` on a thread of its own, and asks its stop signal to end it when a signal comes; a second one ends the
  /// process at once. No other thread may be running. Signals have their usual meaning again afterwards.
  static func run<Value: Sendable>(
    log: Log, _ work: @escaping @Sendable (StopSignal) throws(RelayError) -> Value
  ) throws(RelayError) -> Value {
    let signals = try SignalWatch()
    let (stop, finished) = (StopSignal(), StopSignal())
    let outcome = Outcome<Value>()
    let thread = try RelayThread(name: "command") {
      let result: Result<Value, RelayError>
      do throws(RelayError) {
        result = .success(try work(stop))
      } catch {
        result = .failure(error)
      }
      outcome.value.withLock { $0 = result }
      finished.request()
    }
    signals.serve(stop: stop, finished: finished, log: log, lastWords: "ended immediately by a second signal")
    thread.join()
    signals.end()
    guard let result = outcome.value.withLock({ $0 }) else {
      throw RelayError(.failed, "the command did not finish")
    }
    return try result.get()
  }
}
