// Owns: since when something is acknowledged that is not confirmed.
import RelayCore
import Synchronization
import Testing

private final class SlowStore: CheckpointStore {
  let session = CheckpointSession()
  var durable = LSN.zero
  func store(_ checkpoint: LSN, in session: CheckpointSession) -> JournalAcknowledgement {
    JournalAcknowledgement(durable, in: session)
  }
  func finish(
    _ checkpoint: LSN, in session: CheckpointSession, deadline: MonotonicTime
  ) -> JournalAcknowledgement { JournalAcknowledgement(durable, in: session) }
}

@Suite struct UnconfirmedTests {
  @Test func `the age is that of the oldest position that is not confirmed, and ends with it`() throws {
    let (store, metrics) = (SlowStore(), RelayMetrics())
    let relay = Relay(
      mappings: [OutboxMapping()], database: "d", store: store, metrics: metrics, stop: StopSignal(),
      log: Log(level: .error))
    func since(_ checkpoint: UInt64, durable: UInt64) throws -> UInt64 {
      store.durable = LSN(durable)
      if checkpoint > relay.checkpoint.rawValue { relay.reset(to: LSN(checkpoint)) }
      try relay.idle(until: MonotonicTime.now().advanced(milliseconds: 1))
      return metrics.unconfirmedSince.load(ordering: .relaxed)
    }
    let first = try since(100, durable: 0)
    #expect(first > 0)
    #expect(try since(100, durable: 50) == first)
    #expect(try since(100, durable: 100) == 0)
  }
}
