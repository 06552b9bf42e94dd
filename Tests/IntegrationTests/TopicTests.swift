// Owns: topics that are missing, and the choice of partitions.
import Foundation
import RelayTesting
import Testing

extension Integration {
  @Suite(
    .enabled(if: KafkaCluster.canBeControlled, "needs a Kafka that can be started, and whose tools are there")
  )
  struct TopicTests {
    @Test func `a missing topic holds the relay, which goes on when it is there`() throws {
      let kafka = try KafkaCluster(nodes: 1, settings: ["auto.create.topics.enable": "false"])
      let scene = try Scene(kafka: kafka)
      let relay = try scene.start()
      let topics = ["event.order", "event.cart", "event.customer", "payments.account"].map {
        "\(scene.workload.prefix).\($0)"
      }
      try scene.server.sql(
        "SELECT workload.emit('orders', ARRAY[1, 2, 3], 9), workload.emit('payments', ARRAY[1], 3)",
        database: "shop")
      try relay.waitUntilNotReady(containing: scene.workload.prefix)
      #expect(relay.process.isRunning)
      // One by one: each of them is waited for.
      for topic in topics {
        try kafka.tool(["topics", "--create", "--topic", topic, "--partitions", "3"])
      }
      let verdict = try scene.finish(relay)
      #expect(verdict.ok, "\(verdict)")
      #expect(verdict.committed == 12)
      scene.configuration.kafka = ["missing_topic: refuse"]
      let refusing = try scene.start()
      try scene.server.sql("SELECT workload.emit('inventory', ARRAY[1], 3)", database: "shop")
      #expect(try refusing.process.wait(seconds: 60) == 25, "\(refusing.tail)")
      #expect(refusing.logText.contains("\(scene.workload.prefix).inventory.released"))
    }

    @Test func `partitions are chosen as the Java client does, whatever their number`() throws {
      let kafka = try KafkaCluster.shared()
      let scene = try Scene(kafka: kafka)
      for (topic, count) in [("event.order", 1), ("event.cart", 7), ("event.customer", 50)] {
        try kafka.tool([
          "topics", "--create", "--topic", "\(scene.workload.prefix).\(topic)", "--partitions", "\(count)",
        ])
      }
      let relay = try scene.start()
      try scene.server.sql(
        "SELECT workload.emit('orders', array_agg(i), 6000) FROM generate_series(1, 3000) i", database: "shop"
      )
      let verdict = try scene.finish(relay)
      #expect(verdict.ok, "\(verdict)")
    }
  }
}
