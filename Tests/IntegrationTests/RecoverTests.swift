// Owns: every gap, made for real: run halts before it sends, recover repairs it, run continues, nothing is missing.
import Foundation
import Glibc
import RelayTesting
import Testing

private let ends = [PostgresServer.versions.first, PostgresServer.versions.last].compactMap(\.self)

extension Integration {
  @Suite struct RecoverTests {
    /// Something published, and a relay that has stopped in good order.
    private func published(
      _ version: Int, settings: [String: String] = [:], transactions: Int = 30
    ) throws -> Scene {
      let scene = try Scene(version: version, settings: settings)
      try scene.server.sql(BackfillTests.number, database: "shop")
      let relay = try scene.start()
      try scene.workload.run(writers: 2, transactions: transactions, size: 8, seed: 1)
      try scene.workload.settle(relay)
      #expect(try relay.terminate() == 0)
      return scene
    }

    /// `run` halts and sends nothing, `recover` repairs, `run` continues, and the oracle finds everything.
    private func repair(
      _ scene: Scene, code: Int32, saying word: String = "/", tolerated: Set<String> = [],
      isOriginal: Bool = false
    ) throws {
      let path = try scene.configuration.write()
      let before = try scene.workload.count()
      let confirmed = try scene.server.sql("SELECT confirmed_flush_lsn FROM pg_replication_slots")
      for _ in 0..<2 {
        let relay = try OutboxdProcess(scene.configuration)
        #expect(try relay.process.wait(seconds: 30) == code, "\(relay.tail)")
        let error = try #require(relay.log.last { $0.level == "error" })
        #expect(error.text.contains(word) && error.text.contains("outboxd recover"), "\(error.text)")
        // What it would do changes nothing: the same refusal comes again.
        let plan = try OutboxdProcess.command(["recover", "--config", path, "--dry-run"])
        #expect(plan.status == 0 && plan.output.contains("in doubt"), "\(plan.errors)\(plan.output)")
      }
      #expect(try scene.workload.count() == before)
      #expect(try scene.server.sql("SELECT confirmed_flush_lsn FROM pg_replication_slots") == confirmed)
      try recover(scene, tolerated: tolerated, isOriginal: isOriginal)
    }

    private func recover(
      _ scene: Scene, tolerated: Set<String> = [], isOriginal: Bool = false
    ) throws {
      let path = try scene.configuration.write()
      let word = isOriginal ? ["--yes-this-is-the-original"] : []
      let repaired = try OutboxdProcess.command(["recover", "--config", path] + word)
      #expect(repaired.status == 0, "\(repaired.errors)\(repaired.output)")
      let again = try OutboxdProcess.command(["recover", "--config", path])
      #expect(
        again.status == 0 && again.output.contains("nothing is in doubt"), "\(again.errors)\(again.output)")
      let relay = try scene.start()
      try scene.server.sql("SELECT workload.emit('orders', ARRAY[7, 8, 9], 12)", database: "shop")
      let verdict = try scene.finish(relay, duplicatesAllowed: true, unsequenced: true)
      #expect(Set(verdict.faults.keys).isSubset(of: tolerated), "\(verdict)")
    }

    /// Committed while nobody reads.
    private func write(_ scene: Scene) throws {
      try scene.workload.run(writers: 2, transactions: 12, size: 6, seed: 2)
    }

    @Test(arguments: ends) func `a slot that somebody advanced`(version: Int) throws {
      let scene = try published(version)
      try write(scene)
      try scene.server.sql(
        "SELECT pg_replication_slot_advance('outboxd', pg_current_wal_lsn())", database: "shop")
      try repair(scene, code: 13)
    }

    @Test(arguments: ends) func `a slot that was dropped, and one that was created again`(version: Int) throws
    {
      let scene = try published(version)
      try write(scene)
      try scene.server.sql("SELECT pg_drop_replication_slot('outboxd')")
      try write(scene)
      try repair(scene, code: 10)
      try scene.server.sql("SELECT pg_drop_replication_slot('outboxd')")
      try write(scene)
      try scene.server.sql(
        "SELECT pg_create_logical_replication_slot('outboxd', 'pgoutput')", database: "shop")
      try write(scene)
      try repair(scene, code: 13)
    }

    @Test(arguments: ends)
    func `from an anchor exactly what was skipped is published, with its sequence`(version: Int) throws {
      let scene = try published(version)
      try scene.server.sql(
        "SELECT pg_copy_logical_replication_slot('outboxd', 'outboxd_anchor', false)", database: "shop")
      let path = try scene.configuration.write()
      func recover() throws {
        let plan = try OutboxdProcess.command(["recover", "--config", path, "--dry-run"])
        #expect(plan.status == 0 && plan.output.contains("the anchor"), "\(plan.errors)\(plan.output)")
        let repaired = try OutboxdProcess.command(["recover", "--config", path])
        #expect(repaired.status == 0, "\(repaired.errors)\(repaired.output)")
      }
      try write(scene)
      try scene.server.sql(
        "SELECT pg_replication_slot_advance('outboxd', pg_current_wal_lsn())", database: "shop")
      try write(scene)
      try recover()
      try scene.server.sql("SELECT pg_drop_replication_slot('outboxd')")
      try write(scene)
      try recover()
      let relay = try scene.start()
      try write(scene)
      let verdict = try scene.finish(relay)
      #expect(verdict.ok, "\(verdict)")
    }

    @Test(arguments: ends) func `a slot that was lost`(version: Int) throws {
      let scene = try published(version)
      try write(scene)
      try scene.server.set(["max_slot_wal_keep_size": "16MB", "max_wal_size": "32MB", "min_wal_size": "32MB"])
      try scene.server.restart()
      try scene.server.sql(
        """
        CREATE TABLE filler (content text);
        INSERT INTO filler SELECT repeat(md5(i::text), 30) FROM generate_series(1, 100000) i;
        CHECKPOINT; SELECT pg_switch_wal(); CHECKPOINT;
        """, database: "shop")
      #expect(try scene.server.sql("SELECT wal_status FROM pg_replication_slots") == "lost")
      try repair(scene, code: 11)
    }

    @Test(arguments: ends) func `a publication that was created again`(version: Int) throws {
      let scene = try published(version)
      try scene.server.sql("DROP PUBLICATION outboxd", database: "shop")
      try write(scene)
      try scene.workload.initialize(scene.configuration)
      try write(scene)
      try repair(scene, code: 19, saying: "created again")
    }

    @Test(arguments: ends) func `a table that was taken out and put back`(version: Int) throws {
      let scene = try published(version)
      try scene.server.sql("ALTER PUBLICATION outboxd DROP TABLE payments.outbox_events", database: "shop")
      try write(scene)
      try scene.server.sql("ALTER PUBLICATION outboxd ADD TABLE payments.outbox_events", database: "shop")
      try repair(scene, code: 19, saying: "taken out")
    }

    @Test func `a table that was taken out for a moment while the relay ran`() throws {
      let scene = try Scene()
      try scene.server.sql(BackfillTests.number, database: "shop")
      let relay = try scene.start()
      // Long enough for a proven snapshot.
      for seed in 1...4 {
        try scene.workload.run(writers: 1, transactions: 10, size: 4, seed: UInt32(seed))
        try scene.workload.settle(relay)
      }
      try scene.server.sql("ALTER PUBLICATION outboxd DROP TABLE payments.outbox_events", database: "shop")
      try scene.workload.run(writers: 2, transactions: 20, size: 6, seed: 9)
      try scene.server.sql("ALTER PUBLICATION outboxd ADD TABLE payments.outbox_events", database: "shop")
      try scene.workload.run(writers: 1, transactions: 10, size: 4, seed: 10)
      #expect(try relay.process.wait(seconds: 60) == 19, "\(relay.tail)")
      try repair(scene, code: 19, saying: "taken out")
    }

    @Test func `a table that is left out while the relay runs`() throws {
      let scene = try Scene()
      let relay = try scene.start()
      try scene.workload.run(writers: 1, transactions: 10, size: 4, seed: 1)
      try scene.workload.settle(relay)
      try scene.server.sql("ALTER PUBLICATION outboxd DROP TABLE payments.outbox_events", database: "shop")
      // Checkpoints go on behind rows of the missing table until the watch looks.
      for seed in 2...400 where relay.process.isRunning {
        try scene.workload.run(writers: 1, transactions: 4, size: 6, seed: UInt32(seed))
        usleep(50_000)
      }
      #expect(try relay.process.wait(seconds: 60) == 19, "\(relay.tail)")
      try scene.server.sql("ALTER PUBLICATION outboxd ADD TABLE payments.outbox_events", database: "shop")
      try repair(scene, code: 19, saying: "taken out")
    }

    @Test func `a range that is given up stays given up`() throws {
      let scene = try published(PostgresServer.defaultVersion)
      let confirmed = try scene.workload.count()
      try write(scene)
      try scene.server.sql(
        "SELECT pg_replication_slot_advance('outboxd', pg_current_wal_lsn())", database: "shop")
      let path = try scene.configuration.write()
      let result = try OutboxdProcess.command(["recover", "--config", path, "--adopt"])
      #expect(result.status == 0 && result.output.contains("given up"), "\(result.errors)\(result.output)")
      let verdict = try scene.finish(try scene.start())
      #expect(verdict.faults.keys.sorted() == ["missing"] && verdict.messages == confirmed, "\(verdict)")
    }

    @Test func `recover waits for no relay that runs`() throws {
      let scene = try Scene()
      let relay = try scene.start()
      let path = try scene.configuration.write()
      let result = try OutboxdProcess.command(["recover", "--config", path, "--tables"])
      #expect(result.status == 75 && result.errors.contains("in use"), "\(result.errors)")
      #expect(try relay.terminate() == 0)
    }

    // Copies of the data folder.

    private func copy(_ scene: Scene, withSlots: Bool) throws {
      try scene.server.stop()
      try ChildProcess.check(["cp", "-a", scene.server.data, scene.server.folder + "/copy"])
      if !withSlots {
        try ChildProcess.check(["sh", "-c", "rm -rf \(scene.server.folder)/copy/pg_replslot/*"])
      }
      try scene.server.start()
    }

    private func restore(_ scene: Scene, promoting: Bool) throws {
      try scene.server.stop(.immediate)
      let (data, folder) = (scene.server.data, scene.server.folder)
      try ChildProcess.check(["rm", "-rf", data])
      try ChildProcess.check(["mv", folder + "/copy", data])
      if promoting {
        try scene.server.set(["restore_command": "'/bin/false'"])
        try scene.server.write("", to: "recovery.signal")
      }
      try scene.server.start()
      // A server is ready for reading before it is promoted.
      try eventually("the server is promoted", within: 30) {
        try scene.server.sql("SELECT pg_is_in_recovery()") == "f"
      }
    }

    /// Events whose ids do not come again after a restore.
    private func emit(_ scene: Scene, _ count: Int) throws {
      for key in 1...count {
        try scene.server.sql("SELECT workload.emit('orders', ARRAY[\(key), 500], 10)", database: "shop")
      }
    }

    @Test(arguments: ends) func `an older base backup`(version: Int) throws {
      let scene = try published(version)
      try copy(scene, withSlots: false)
      let relay = try scene.start()
      try emit(scene, 20)
      try scene.workload.settle(relay)
      #expect(try relay.terminate() == 0)
      try restore(scene, promoting: false)
      try emit(scene, 10)
      try repair(scene, code: 10, tolerated: ["phantom"], isOriginal: true)
    }

    @Test(arguments: ends, [true, false])
    func `a promotion that lacks transactions`(version: Int, withSlots: Bool) throws {
      let scene = try published(version)
      try copy(scene, withSlots: withSlots)
      let relay = try scene.start()
      try emit(scene, 20)
      try scene.workload.settle(relay)
      try restore(scene, promoting: true)
      try emit(scene, 5)
      let code = try relay.process.wait(seconds: 60)
      #expect([15, 16].contains(code), "\(relay.tail)")
      #expect(
        relay.log.last { $0.level == "error" }?.text.contains("outboxd recover") == true, "\(relay.tail)")
      try emit(scene, 5)
      // Only the process knew how far it had published: it has written nothing to a server on another timeline.
      if withSlots {
        // A slot that came along stands where the journal does: the stream has everything after it.
        try recover(scene, tolerated: ["phantom"], isOriginal: true)
      } else {
        try repair(scene, code: 10, tolerated: ["phantom"], isOriginal: true)
      }
    }
  }
}
