// Owns: bounds: WAL that is let go, memory that does not grow, what the program needs on its machine.
import Foundation
import RelayTesting
import Testing

extension Integration {
  @Suite struct ResourceTests {
    @Test func `an idle outbox lets go of the WAL that other tables write`() throws {
      let scene = try Scene(settings: ["max_wal_size": "256MB", "min_wal_size": "32MB"])
      try scene.server.sql(
        "CREATE TABLE public.filler (content text); ALTER TABLE public.filler ALTER content SET STORAGE PLAIN",
        database: "shop")
      let relay = try scene.start()
      let before = try scene.server.sql("SELECT pg_current_wal_lsn()")
      for _ in 0..<8 {
        try scene.server.sql(
          """
          INSERT INTO public.filler SELECT repeat(md5(i::text), 60) FROM generate_series(1, 66000) i;
          TRUNCATE public.filler; CHECKPOINT;
          """, database: "shop")
      }
      #expect(
        try scene.server.integer("SELECT (pg_current_wal_lsn() - '\(before)'::pg_lsn)::bigint")
          > 1_000_000_000)
      // restart_lsn moves at a snapshot of running transactions that is confirmed: a checkpoint writes one.
      try eventually("less than 64 MB are retained", within: 60) {
        try scene.server.sql("CHECKPOINT")
        let retained = try scene.server.integer(
          "SELECT (pg_current_wal_lsn() - restart_lsn)::bigint FROM pg_replication_slots")
        return retained < 64 << 20
      }
      #expect(try relay.metric("outboxd_events_delivered_total") ?? 0 == 0)
      #expect(try relay.terminate() == 0)
    }

    @Test func `the program runs on a machine without Swift`() throws {
      let libraries = try ChildProcess.run(["ldd", OutboxdProcess.binary()])
      #expect(libraries.output.contains("librdkafka"))
      #expect(!libraries.output.lowercased().contains("swift"), "not a release build? \(libraries.output)")
    }

    @Test(.enabled(if: KafkaCluster.isReal, "the embedded broker keeps 5 MB of a partition"))
    func `a transaction of a million rows takes less than 100 MB`() throws {
      let scene = try Scene(settings: ["max_wal_size": "4GB"])
      let relay = try scene.start()
      try scene.server.sql(
        "SELECT workload.emit('orders', array_agg(i), 1000000) FROM generate_series(1, 1000) i",
        database: "shop")
      try scene.workload.settle(relay, within: 300)
      let peak = try relay.memory("VmHWM")
      #expect(peak < 100_000, "\(peak) kB")
      // The counts by topic are published once a second.
      try eventually("the metric counts a million deliveries", within: 5) {
        try relay.metric("outboxd_events_delivered_total") == 1_000_000
      }
      #expect(try relay.terminate() == 0)
      let messages = try scene.workload.count()
      #expect(messages == 1_000_000)
    }
  }
}
