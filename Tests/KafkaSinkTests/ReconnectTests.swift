// Owns: what counts as a connection to Kafka that is there again.
import RelayCore
import Synchronization
import Testing

@testable import KafkaSink

@Suite struct ReconnectTests {
  @Test func `a broker that is back after none was there counts once, also with the next producer`() {
    let metrics = RelayMetrics()
    var now = MonotonicTime.now()
    func reconnects() -> UInt64 { metrics.sinkReconnects.load(ordering: .relaxed) }
    var health = KafkaHealth(metrics: metrics, mechanism: "")
    func see(_ count: Int) {
      health.note(connected: count, now: now)
      health.publish()
      now = now.advanced(milliseconds: KafkaHealth.reconnectionTime)
    }
    see(0)
    see(3)
    see(1)
    #expect(reconnects() == 0)
    // Idle connections end, and are there again at once.
    see(0)
    see(1)
    #expect(reconnects() == 0)
    see(0)
    see(0)
    #expect(metrics.kafkaBrokersUp.load(ordering: .relaxed) == 0)
    see(2)
    #expect(reconnects() == 1)
    health = KafkaHealth(metrics: metrics, mechanism: "")
    #expect(reconnects() == 1)
    see(2)
    #expect(reconnects() == 2)
  }
}
