// Owns: a conninfo that leads to two clusters, each with an outboxd of its own: what belongs to the other is not touched.
import Foundation
import Glibc
import RelayTesting
import Testing

private let ends = [PostgresServer.versions.first, PostgresServer.versions.last].compactMap(\.self)

extension Integration {
  @Suite struct OtherServerTests {
    /// Two clusters with slots and journals of the same names. The relay of the second has published, and stands still.
    private func clusters(_ version: Int) throws -> (own: Scene, other: Scene) {
      let (own, other) = (try Scene(version: version), try Scene(version: version))
      let relay = try other.start()
      try other.workload.run(writers: 2, transactions: 10, size: 4, seed: 1)
      try other.workload.settle(relay)
      #expect(try relay.terminate() == 0)
      return (own, other)
    }

    /// Everything that outboxd has in a cluster.
    private func state(_ scene: Scene) throws -> String {
      try scene.server.sql(
        """
        SELECT c FROM outboxd.checkpoint c;
        SELECT h FROM outboxd.checkpoint_history h;
        SELECT j FROM outboxd.job j;
        SELECT slot_name, restart_lsn, confirmed_flush_lsn FROM pg_replication_slots ORDER BY 1;
        """, database: "shop")
    }

    @Test(arguments: ends)
    func `a relay whose second host is another cluster leaves that alone, and goes on with its own`(
      version: Int
    ) throws {
      let (own, other) = try clusters(version)
      let before = try state(other)
      own.configuration.conninfo =
        "host=127.0.0.1,127.0.0.1 port=\(own.server.port),\(other.server.port) dbname=shop user=outboxd"
      let relay = try OutboxdProcess(own.configuration, environment: ["OUTBOXD_REPLAY_WINDOW": "1h"])
      try relay.waitUntilReady()
      try own.workload.run(writers: 2, transactions: 10, size: 4, seed: 2)
      try own.workload.settle(relay)
      let systems = try [own, other].map {
        try $0.server.sql("SELECT system_identifier FROM pg_control_system()")
      }
      try own.server.stop(.immediate)
      let reason = try relay.waitUntilNotReady(containing: "another cluster")
      for word in [":\(other.server.port)"] + systems {
        #expect(reason.contains(word), "\(word): \(reason)")
      }
      try relay.waitForLog("the journal's connection was refused") {
        $0.message.hasPrefix("the second connection") && $0.text.contains("another cluster")
      }
      try relay.waitForLog("the anchor's connection was refused") {
        $0.message.hasPrefix("the anchor") && $0.text.contains("another cluster")
      }
      try eventually("several attempts have been made\n\(relay.tail)", within: 60) { () throws -> Bool in
        let status = try relay.get("/readyz").status
        #expect(status == 503)
        return relay.log.count { $0.message.hasPrefix("no stream") && $0.text.contains("another cluster") }
          > 1
      }
      #expect(try state(other) == before)
      try own.server.start()
      try relay.waitUntilReady()
      try own.workload.run(writers: 2, transactions: 10, size: 4, seed: 3)
      let verdict = try own.finish(relay)
      #expect(verdict.ok, "\(verdict)")
      #expect(try state(other) == before)
    }

    @Test(arguments: ends)
    func `a job whose connections are led to another cluster leaves that alone, and goes on with its own`(
      version: Int
    ) throws {
      let (own, other) = try clusters(version)
      let before = try state(other)
      try own.workload.run(writers: 2, transactions: 40, size: 4, seed: 2)
      let relay = try own.start()
      try own.workload.settle(relay)
      #expect(try relay.terminate() == 0)
      let proxy = try FaultProxy(target: own.server.port)
      own.configuration.conninfo = "host=127.0.0.1 port=\(proxy.port) dbname=shop user=outboxd"
      let path = try own.configuration.write()
      let words = ["backfill", "--config", path, "--accept-duplicates"]
      let job = try ChildProcess([try OutboxdProcess.binary()] + words + ["--rate", "30"])
      func awaitRefusal(_ what: String) throws {
        try eventually("\(what) is refused\n\(job.errors)", within: 30) {
          job.errors.split(separator: "\n").contains { $0.contains("another cluster") && $0.contains(what) }
        }
      }
      try eventually("some are sent\n\(job.errors)", within: 30) {
        try own.server.sql("SELECT coalesce(max(events), 0) > 20 FROM outboxd.job", database: "shop") == "t"
      }
      try proxy.command("target \(other.server.port)")
      try own.server.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'outboxd job'")
      try awaitRefusal("the job's position was not stored")
      try proxy.command("cut")
      try awaitRefusal("reconnecting")
      #expect(job.errors.contains(":\(other.server.port)") || job.errors.contains(":\(proxy.port)"))
      #expect(try state(other) == before)
      try proxy.command("target \(own.server.port)")
      #expect(try job.wait(seconds: 60) == 0, "\(job.errors)")
      #expect(try state(other) == before)

      // The first connection leads to the one, the second to the other.
      let lsn = try own.server.sql("SELECT pg_current_wal_insert_lsn()")
      try own.server.sql("SELECT workload.emit('orders', ARRAY[1], 1)", database: "shop")
      for words in [
        ["backfill", "--accept-duplicates"], ["replay", "--from", "1h"], ["recover", "--tables"],
        ["skip", "--lsn", lsn, "--reason", "test"], ["status"],
      ] {
        try proxy.command("target \(own.server.port) \(other.server.port)")
        let result = try OutboxdProcess.command([words[0], "--config", path] + words.dropFirst())
        #expect(result.status == 75, "\(words): \(result.errors)\(result.output)")
        #expect(result.errors.contains("another cluster"), "\(words): \(result.errors)")
      }
      #expect(try state(other) == before)
      try proxy.command("target \(own.server.port)")
      let verdict = try own.finish(try own.start(), duplicatesAllowed: true, unsequenced: true)
      #expect(verdict.ok, "\(verdict)")
    }
  }
}
