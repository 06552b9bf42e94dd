// Owns: what the watch on the database tells the stream: faults, and that a requested publication check is done.
// Must not know: how a fault is found, SQL.
import RelayCore
import Synchronization

/// Between the relay's thread and the watch's: `post`, `requestedCheck` and `checked` belong to the watch, the rest to the
/// relay.
final class WatchFindings: Sendable {
  /// Readable once a publication check was done.
  let checked = WakeSignal()
  /// Wakes the watch.
  private let wake: WakeSignal
  private let hasFault = Atomic<Bool>(false)
  private let shared = Mutex(Shared())
  /// How many publication checks were requested.
  let requested = Atomic<UInt64>(0)
  /// Up to which of them they are done.
  private let done = Atomic<UInt64>(0)

  private struct Shared {
    var session = CheckpointSession()
    var fault: RelayError?
  }

  init(wake: WakeSignal) { self.wake = wake }

  /// A session begins, perhaps with a fault that its start has found. Faults of the former one are forgotten.
  func begin(_ session: CheckpointSession, fault: RelayError?) {
    shared.withLock { shared in
      shared.session = session
      shared.fault = fault
      hasFault.store(fault != nil, ordering: .releasing)
    }
  }

  /// Refused where the session is over: it may have been on another server.
  func post(_ fault: RelayError, in session: CheckpointSession) {
    shared.withLock { shared in
      guard session == shared.session else { return }
      shared.fault = fault
      hasFault.store(true, ordering: .releasing)
    }
  }

  /// The fault that was found since the session began; once. Costs one atomic read where there is none.
  func takeFault() -> RelayError? {
    guard hasFault.load(ordering: .acquiring) else { return nil }
    return shared.withLock { shared in
      hasFault.store(false, ordering: .releasing)
      defer { shared.fault = nil }
      return shared.fault
    }
  }

  /// Requests a publication check, now. A fault that it finds can be taken once it is done.
  /// - Returns: the number of the request.
  func requestPublicationCheck() -> UInt64 {
    let request = requested.wrappingAdd(1, ordering: .acquiringAndReleasing).newValue
    wake.signal()
    return request
  }

  func isPublicationChecked(_ request: UInt64) -> Bool {
    checked.clear()
    return done.load(ordering: .acquiring) >= request
  }

  /// The newest request. Nil where its check is done.
  var requestedCheck: UInt64? {
    let requested = requested.load(ordering: .acquiring)
    return requested > done.load(ordering: .acquiring) ? requested : nil
  }

  /// The checks up to `request` are done.
  func publicationChecked(_ request: UInt64) {
    done.store(request, ordering: .releasing)
    checked.signal()
  }
}
