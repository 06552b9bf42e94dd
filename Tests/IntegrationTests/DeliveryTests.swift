// Owns: the main promise: every committed event, no other, in order, unchanged; without a fault also once.
import Foundation
import RelayTesting
import Testing

extension Integration {
  @Suite struct DeliveryTests {
    @Test(.enabled(if: KafkaCluster.isReal, "the embedded broker keeps 5 MB of a partition"))
    func `a hundred thousand events in transactions of all sizes arrive complete and in order`() throws {
      var random = SeededGenerator("DeliveryTests")
      let scene = try Scene()
      let relay = try scene.start()
      let seed = UInt32(truncatingIfNeeded: random.next())
      try scene.workload.run(transactions: 500, size: 1, seed: seed)
      try scene.workload.run(transactions: 250, size: 10, seed: seed &+ 1)
      try scene.workload.run(transactions: 15, size: 1000, seed: seed &+ 2)
      try scene.workload.runPrepared(40)
      try scene.server.sql(
        "SELECT workload.emit('orders', array_agg(i), 100000) FROM generate_series(1, 100) i",
        database: "shop")
      try scene.workload.settle(relay)
      let committed = try scene.server.integer("SELECT count(*) FROM truth.event", database: "shop")
      // The counts by topic are published once a second.
      try eventually("the metric counts \(committed) deliveries", within: 5) {
        try relay.metric("outboxd_events_delivered_total").map { Int($0) } == committed
      }
      let verdict = try scene.finish(relay)
      #expect(verdict.ok, "\(verdict)")
      #expect(verdict.committed > 150_000)
      #expect(verdict.duplicates == 0)
      #expect((verdict.modes["binary"] ?? 0) > 100_000)
      #expect((verdict.modes["structured"] ?? 0) > 10_000)
    }

    @Test func `a restart in good order sends nothing twice, whether the relay adapts to the load or not`()
      throws
    {
      let scene = try Scene()
      for seed in UInt32(1)...4 {
        scene.configuration.relay = ["adaptive: \(seed % 2 == 0 ? "off" : "on")"]
        let relay = try scene.start()
        try scene.workload.run(transactions: 50, size: 10, seed: seed)
        // Not settled: what is not yet read comes after the restart.
        #expect(try relay.terminate() == 0)
      }
      let verdict = try scene.finish(try scene.start())
      #expect(verdict.ok, "\(verdict)")
      #expect(verdict.duplicates == 0)
    }

    @Test(arguments: PostgresServer.versions)
    func `each version of Postgres, with tables that change in the stream`(version: Int) throws {
      let scene = try Scene(version: version)
      let relay = try scene.start()
      try scene.workload.run(transactions: 60, size: 1, seed: UInt32(version))
      try scene.workload.run(transactions: 30, size: 25, seed: UInt32(version + 1))
      try scene.workload.runPrepared(12)
      let changes = try String(contentsOfFile: Workload.folder + "/redefine.sql", encoding: .utf8)
      try scene.server.sql(changes, database: "shop")
      try scene.workload.run(transactions: 30, size: 25, seed: UInt32(version + 2))
      let verdict = try scene.finish(relay)
      #expect(verdict.ok, "\(verdict)")
      #expect(verdict.committed > 3000)
    }

    @Test func `an ignored UPDATE is counted and warned of`() throws {
      let scene = try Scene(initialize: false)
      // init publishes inserts only; a DBA's own publication may have more.
      try scene.server.sql(
        """
        CREATE PUBLICATION outboxd
        FOR TABLE public.outbox, payments.outbox_events, inventory.outbox, notifications.messages
        WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)
        """, database: "shop")
      try scene.workload.initialize(scene.configuration)
      let relay = try scene.start()
      try scene.server.sql(
        """
        SELECT workload.emit('orders', ARRAY[1], 3);
        UPDATE public.outbox SET type = 'changed' WHERE version = 1;
        UPDATE public.outbox SET type = 'com.example.order.changed.v1' WHERE version = 1;
        SELECT workload.emit('orders', ARRAY[1], 3);
        DELETE FROM payments.outbox_events;
        """, database: "shop")
      try scene.workload.settle(relay)
      let updates = try #require(try relay.metric("outboxd_ignored_updates_total"))
      #expect(updates == 2)
      // The commit time of the updated row is no longer that of its insert.
      let verdict = try scene.finish(relay)
      #expect(verdict.delivered == 6)
      #expect(Set(verdict.faults.keys).isSubset(of: ["attributes"]), "\(verdict)")
    }
  }
}
