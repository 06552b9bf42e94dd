import Foundation
import Glibc
import RelayTesting
import Testing

extension Faults {
  @Suite struct StopTests {
    @Test func `SIGTERM within a large transaction drains, and the next run completes it`() throws {
      let scene = try Scene()
      var relay = try scene.start()
      let transaction = try scene.server.startSQL(
        "SELECT workload.emit('orders', array_agg(i), 200000) FROM generate_series(1, 50) i", database: "shop"
      )
      try Faults.waitForDeliveries(relay, 5000)
      #expect(try relay.terminate() == 0, "\(relay.tail)")
      try transaction.wait(seconds: 60)
      relay = try scene.start()
      let verdict = try scene.finish(relay, duplicatesAllowed: true, rewinds: 1)
      #expect(verdict.ok, "\(verdict)")
      #expect(verdict.committed == 200_000)
    }

    @Test(.enabled(if: KafkaCluster.canBeControlled, "needs a Kafka that can be frozen"))
    func `SIGTERM with Kafka away ends at the drain's deadline, and says so`() throws {
      let kafka = try KafkaCluster(nodes: 1)
      let scene = try Scene(kafka: kafka)
      scene.configuration.relay = ["drain_timeout: 3s"]
      let relay = try scene.start()
      let writers = try scene.workload.startLoad(seed: 1)
      try Faults.waitForDeliveries(relay, 200)
      try kafka.control("pause")
      try eventually("events are in flight", within: 30) {
        try scene.workload.server.integer(
          "SELECT (pg_current_wal_lsn() - confirmed_flush_lsn)::bigint FROM pg_replication_slots") > 200_000
      }
      let begin = Date()
      #expect(try relay.terminate(within: 30) == 26, "\(relay.tail)")
      #expect((2.5...12).contains(Date().timeIntervalSince(begin)))
      try scene.workload.stopLoad(writers)
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
      relay.process.signal(SIGTERM)
      #expect(try relay.process.wait(seconds: 3) == 130)
      try scene.workload.stopLoad(writers)
      try kafka.control("resume")
      let verdict = try scene.finish(try scene.start(), duplicatesAllowed: true, rewinds: 1)
      #expect(verdict.ok, "\(verdict)")
    }
  }
}
