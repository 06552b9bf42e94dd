// Owns: Kafka stopped, killed, frozen, losing a leader, and its network failing.
import Foundation
import RelayTesting
import Testing

extension Faults {
  @Suite(.enabled(if: KafkaCluster.canBeControlled, "needs a Kafka that can be stopped"))
  struct KafkaTests {
    @Test func `Kafka stopped for a minute, with a Postgres that wants to hear from its client`() throws {
      let kafka = try KafkaCluster(nodes: 1)
      let scene = try Scene(settings: ["wal_sender_timeout": "5s"], kafka: kafka)
      try Faults.run("Kafka stopped", scene: scene, rewinds: nil) { relay in
        try kafka.control("stop")
        try relay.waitUntilNotReady()
        let reconnects = try relay.metric("outboxd_reconnects_total{side=\"postgres\"}")
        Faults.last(seconds: 60)
        #expect(try relay.get("/livez").status == 200)
        let after = try relay.metric("outboxd_reconnects_total{side=\"postgres\"}")
        #expect(after == reconnects, "\(relay.tail)")
        #expect(try relay.memory("VmRSS") < 200_000)
        try kafka.start()
      }
    }

    @Test func `Kafka killed, twice`() throws {
      let kafka = try KafkaCluster(nodes: 1)
      let scene = try Scene(kafka: kafka)
      try Faults.run("Kafka killed", scene: scene, rewinds: nil) { relay in
        for _ in 0..<2 {
          try kafka.control("kill")
          try relay.waitUntilNotReady()
          try kafka.start()
          try relay.waitUntilReady(within: 120)
          try Faults.waitForDeliveries(relay, 100)
        }
      }
    }

    @Test func `Kafka frozen`() throws {
      let kafka = try KafkaCluster(nodes: 1)
      let scene = try Scene(kafka: kafka)
      try Faults.run("Kafka frozen", scene: scene, rewinds: nil) { relay in
        try kafka.control("pause")
        Faults.last(seconds: 20)
        #expect(try relay.get("/livez").status == 200)
        try kafka.control("resume")
      }
    }

    @Test func `a leader of three nodes killed`() throws {
      let kafka = try KafkaCluster(nodes: 3, heap: "320m")
      let scene = try Scene(kafka: kafka)
      try Faults.run("leader killed", scene: scene, rewinds: nil) { relay in
        for node in 1...3 {
          // Partitions are spread over all three, so each of them leads some.
          try kafka.control("kill", node: node)
          Faults.last(seconds: 5)
          try kafka.start(node: node)
          try relay.waitUntilReady(within: 120)
          try Faults.waitForDeliveries(relay, 200)
        }
      }
    }

    @Test func `a slow network, a hanging one, and lost answers between outboxd and Kafka`() throws {
      let port = try freePort()
      let kafka = try KafkaCluster(
        nodes: 1, settings: ["advertised.listeners": "PLAINTEXT://127.0.0.1:\(port)"])
      let target = try #require(kafka.bootstrap.split(separator: ":").last.flatMap { Int($0) })
      let proxy = try FaultProxy(target: target, port: port)
      let scene = try Scene(kafka: kafka)
      scene.configuration.properties["socket.timeout.ms"] = "10000"
      try Faults.run("network to Kafka", scene: scene, rewinds: nil) { relay in
        try proxy.command("delay 0.5")
        try Faults.waitForDeliveries(relay, 500)
        try proxy.command("pass")
        for _ in 0..<10 {
          // Requests that Kafka has taken, whose answer does not come.
          try proxy.command("cut")
          try Faults.waitForDeliveries(relay, 50)
        }
        try proxy.command("blackhole")
        Faults.last(seconds: 15)
        try proxy.command("cut")
        try proxy.command("pass")
      }
    }
  }
}
