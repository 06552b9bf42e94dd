// Owns: Postgres restarted, its walsender ended, its network failing, outboxd frozen.
import Foundation
import Glibc
import RelayTesting
import Testing

extension Faults {
  @Suite struct PostgresTests {
    @Test(arguments: [PostgresServer.StopMode.fast, .immediate])
    func `Postgres restarted under load`(mode: PostgresServer.StopMode) throws {
      let scene = try Scene()
      try Faults.run("Postgres restarted, \(mode)", scene: scene, rewinds: nil) { relay in
        for _ in 0..<3 {
          try scene.server.stop(mode)
          try relay.waitUntilNotReady()
          try scene.server.start()
          try relay.waitUntilReady()
          let writers = try scene.workload.startLoad(seed: 7)
          try Faults.waitForDeliveries(relay, 100)
          try scene.workload.stopLoad(writers)
        }
      }
    }

    @Test func `an immediate restart when all was confirmed sends nothing twice`() throws {
      // Postgres forgets what the slot confirmed since its last checkpoint; outboxd does not.
      let scene = try Scene()
      let relay = try scene.start()
      try scene.workload.run(transactions: 20, size: 10, seed: 5)
      try scene.workload.settle(relay)
      try scene.server.restart(.immediate)
      try relay.waitUntilReady()
      try scene.workload.run(transactions: 20, size: 10, seed: 6)
      let verdict = try scene.finish(relay)
      #expect(verdict.ok, "\(verdict)")
    }

    @Test func `the walsender terminated, again and again`() throws {
      let scene = try Scene()
      try Faults.run("walsender terminated", scene: scene, rewinds: 10) { relay in
        for _ in 0..<10 {
          try eventually("a walsender streams", within: 30) {
            try scene.server.sql(
              "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active") == "t"
          }
          try relay.waitUntilReady()
          try Faults.waitForDeliveries(relay, 50)
        }
      }
    }

    @Test func `frozen for longer than wal_sender_timeout`() throws {
      let scene = try Scene(settings: ["wal_sender_timeout": "3s"])
      try Faults.run("SIGSTOP", scene: scene, rewinds: 2) { relay in
        for _ in 0..<2 {
          relay.process.signal(SIGSTOP)
          try eventually("the walsender gives up", within: 30) {
            try scene.server.sql("SELECT active FROM pg_replication_slots") == "f"
          }
          relay.process.signal(SIGCONT)
          try relay.waitUntilReady()
          try Faults.waitForDeliveries(relay, 100)
        }
      }
    }

    @Test func `a network that hangs, resets and cuts in the middle of a transaction`() throws {
      let scene = try Scene(settings: ["wal_sender_timeout": "5s"])
      let proxy = try FaultProxy(target: scene.server.port)
      scene.configuration.conninfo = scene.configuration.conninfo.replacingOccurrences(
        of: "port=\(scene.server.port)", with: "port=\(proxy.port)")
      try Faults.run("network to Postgres", scene: scene, rewinds: nil, within: 240) { relay in
        for _ in 0..<5 {
          try proxy.command("cut")
          try relay.waitUntilReady()
          try Faults.waitForDeliveries(relay, 50)
        }
        try proxy.command("cutafter 300000")
        try proxy.command("cut")
        try scene.server.sql(
          "SELECT workload.emit('orders', ARRAY[1001, 1002], 20000)", database: "shop")
        // The big transaction does not get through; the small ones before it did.
        try eventually("several attempts were cut", within: 60) {
          (try? relay.metric("outboxd_reconnects_total{side=\"postgres\"}") ?? 0) ?? 0 >= 7
        }
        try proxy.command("pass")
        try relay.waitUntilReady()
        try proxy.command("blackhole")
        try relay.waitUntilNotReady(within: 120)
        try proxy.command("cut")
        try proxy.command("pass")
      }
    }
  }
}
