// Owns: SIGTERM at inconvenient moments, and its deadline.
import Foundation
import Glibc
import RelayTesting
import Testing

extension Faults {
  @Suite struct StopTests {
    @Test func `SIGTERM within a large transaction ends soon, and the next run completes it`() throws {
      let scene = try Scene()
      // A narrow line, so that the transaction takes its time.
      let proxy = try FaultProxy(target: scene.server.port)
      try proxy.command("delay 0.05")
      let direct = scene.configuration.conninfo
      scene.configuration.conninfo = direct.replacingOccurrences(
        of: "port=\(scene.server.port)", with: "port=\(proxy.port)")
      scene.configuration.relay = ["drain_timeout: 6s"]
      var relay = try scene.start()
      try scene.server.sql(
        "SELECT workload.emit('orders', array_agg(i), 100000) FROM generate_series(1, 50) i", database: "shop"
      )
      try Faults.waitForDeliveries(relay, 5000)
      let begin = Date()
      #expect(try relay.terminate() == 0, "\(relay.tail)")
      #expect(Date().timeIntervalSince(begin) < 7.5, "\(relay.tail)")
      scene.configuration.conninfo = direct
      relay = try scene.start()
      try scene.workload.settle(relay)
      // What was sent of the transaction before the stop is not sent again: it was a stop in the middle.
      let recognized = try #require(try relay.metric("outboxd_events_recognized_total"))
      #expect((5000..<100_000).contains(recognized))
      let verdict = try scene.finish(relay)
      #expect(verdict.ok, "\(verdict)")
      #expect(verdict.committed == 100_000)
    }

    @Test(.enabled(if: KafkaCluster.canBeControlled, "needs a Kafka that can be frozen"))
    func `SIGTERM with Kafka away ends at the drain's deadline, and says so`() throws {
      let kafka = try KafkaCluster(nodes: 1)
      let scene = try Scene(kafka: kafka)
      scene.configuration.relay = ["drain_timeout: 6s"]
      let relay = try scene.start()
      try scene.workload.run(transactions: 20, size: 20, seed: 1)
      try scene.workload.settle(relay)
      try kafka.control("pause")
      // More than the queue takes: the stop comes within the transaction.
      try scene.server.sql(
        "SELECT workload.emit('orders', array_agg(i), 200000) FROM generate_series(1, 50) i", database: "shop"
      )
      try eventually("the queue is full", within: 60) {
        try relay.metric("outboxd_queue_full_total") ?? 0 > 0
      }
      let begin = Date()
      #expect(try relay.terminate(within: 30) == 0, "\(relay.tail)")
      #expect(relay.tail.contains("stopped before Kafka had acknowledged everything"))
      #expect((5.5...7.5).contains(Date().timeIntervalSince(begin)), "\(relay.tail)")
      try kafka.control("resume")
      let verdict = try scene.finish(try scene.start(), duplicatesAllowed: true, rewinds: 1)
      #expect(verdict.ok, "\(verdict)")
    }

    @Test(.enabled(if: KafkaCluster.canBeControlled, "needs a Kafka that can be frozen"))
    func `a second signal ends at once`() throws {
      let kafka = try KafkaCluster(nodes: 1)
      let scene = try Scene(kafka: kafka)
      scene.configuration.relay = ["drain_timeout: 60s"]
      let relay = try scene.start()
      let writers = try scene.workload.startLoad(seed: 1)
      try Faults.waitForDeliveries(relay, 200)
      try kafka.control("pause")
      relay.process.signal(SIGTERM)
      try eventually("the first signal is logged: \(relay.tail)", within: 10) {
        relay.log.contains { $0.text.lowercased().contains("sigterm") }
      }
      // One that follows within half a second is the same request.
      let status = try eventually("outboxd ends: \(relay.tail)", within: 3) { () -> Int32? in
        relay.process.signal(SIGTERM)
        return relay.process.poll()
      }
      #expect(status == 130)
      try scene.workload.stopLoad(writers)
      try kafka.control("resume")
      let verdict = try scene.finish(try scene.start(), duplicatesAllowed: true, rewinds: 1)
      #expect(verdict.ok, "\(verdict)")
    }
  }
}
