// Owns: what the demo has written, and what of it has arrived.
// Must not know: Postgres, Kafka.
import RelayCore
import Synchronization

/// What was written and what has arrived. Shared by the writer's thread and the demo's.
final class DemoLedger: Sendable {
  struct Counts {
    var written = 0
    var rolledBack = 0
    var arrived = 0
    /// Events that arrived although their transaction was rolled back. Must stay 0.
    var invented = 0
    var repeated = 0
    /// Microseconds from COMMIT to arrival.
    var latencies: [Int] = []
    var services: Set<String> = []
  }

  private struct State {
    var counts = Counts()
    var commits: [String: MonotonicTime] = [:]
    var rolledBack: Set<String> = []
    var arrived: Set<String> = []
    var failure: RelayError?
  }

  private let state = Mutex(State())

  var counts: Counts { state.withLock { $0.counts } }

  var failure: RelayError? {
    get { state.withLock { $0.failure } }
    set { state.withLock { $0.failure = newValue } }
  }

  /// Just before COMMIT.
  func willCommit(_ id: String, service: String) {
    state.withLock { state in
      state.commits[id] = .now()
      state.counts.written += 1
      state.counts.services.insert(service)
    }
  }

  /// Before ROLLBACK.
  func willRollBack(_ id: String) {
    state.withLock { state in
      state.rolledBack.insert(id)
      state.counts.rolledBack += 1
    }
  }

  /// The microseconds since its COMMIT. Nil: the event is not this demo's, or is a duplicate.
  func arrived(_ id: String) -> Int? {
    state.withLock { state in
      if state.rolledBack.contains(id) { state.counts.invented += 1 }
      guard let commit = state.commits[id] else { return nil }
      guard state.arrived.insert(id).inserted else {
        state.counts.repeated += 1
        return nil
      }
      let latency = Int((MonotonicTime.now().nanoseconds - commit.nanoseconds) / 1000)
      state.counts.arrived += 1
      state.counts.latencies.append(latency)
      return latency
    }
  }
}
