// Owns: one judgement: what run halts with, recover sees too; what it does leads back; what was in doubt arrives.
import Foundation
import Glibc
import RelayTesting
import Testing

private let ends = [PostgresServer.versions.first, PostgresServer.versions.last].compactMap(\.self)

/// One relay, its server and its slot, which are brought into one state after the other.
private struct Judged {
  let scene: Scene
  let path: String

  /// Something is published, and the relay has stopped in good order.
  init(version: Int) throws {
    scene = try Scene(version: version)
    path = try scene.configuration.write()
    try sql(Integration.BackfillTests.number)
    try write()
    try goOn("at first")
  }

  @discardableResult
  func sql(_ text: String) throws -> String { try scene.server.sql(text, database: "shop") }

  /// Committed while nobody reads.
  func write() throws {
    try sql(
      "SELECT workload.emit('orders', ARRAY[7, 8, 9], 6); SELECT workload.emit('payments', ARRAY[7, 8], 4);")
  }

  func recover(_ options: [String]) throws -> ChildProcess.Result {
    try OutboxdProcess.command(["recover", "--config", path] + options)
  }

  private var slot: String {
    get throws {
      try sql("SELECT slot_name, slot_type, confirmed_flush_lsn FROM pg_replication_slots")
    }
  }
  private var journal: String { get throws { try sql("SELECT * FROM outboxd.checkpoint") } }

  /// `run` halts with the code, and says the kind and the words.
  private func halts(_ code: Int32, _ words: String) throws -> String {
    let relay = try OutboxdProcess(scene.configuration)
    #expect(try relay.process.wait(seconds: 30) == code, "\(relay.tail)")
    let error = try #require(relay.log.last { $0.level == "error" }, "\(relay.tail)")
    #expect(error.text.contains(words) && error.fields["remedy"] != nil, "\(error.text)")
    return error.fields["kind"] ?? ""
  }

  /// Both halt, for the same reason, until somebody corrects it.
  func refused(_ code: Int32, saying words: String) throws {
    _ = try halts(code, words)
    for options in [["--dry-run"], []] {
      let result = try recover(options)
      #expect(result.status == code && result.errors.contains(words), "\(result.errors)\(result.output)")
    }
  }

  /// `run` halts, `recover --dry-run` names the same fault and moves nothing, `recover` repairs it, and `run` continues.
  func repaired(_ code: Int32, saying words: String, options: [String] = []) throws {
    let kind = try halts(code, words)
    let before = try [slot, journal]
    let plan = try recover(["--dry-run", "--json"])
    let members = try JSONSerialization.jsonObject(with: Data(plan.output.utf8)) as? [String: Any]
    #expect(plan.status == 0 && members?["fault"] as? String == kind, "\(plan.errors)\(plan.output)")
    #expect((members?["message"] as? String)?.contains(words) == true, "\(plan.output)")
    #expect(try [slot, journal] == before)
    try repair("\(code), \(words)", options)
  }

  /// `recover` does, and `run` goes on.
  func repair(_ state: String, _ options: [String] = []) throws {
    let result = try recover(options)
    #expect(result.status == 0, "\(state): \(result.errors)\(result.output)")
    let again = try recover(["--dry-run"])
    #expect(
      again.status == 0 && again.output.contains("nothing is in doubt"),
      "\(state): \(again.errors)\(again.output)")
    try goOn(state)
  }

  /// Everything that was committed is there.
  func goOn(_ state: String) throws {
    let relay = try scene.start()
    try write()
    let verdict = try scene.finish(relay, duplicatesAllowed: true, unsequenced: true)
    #expect(verdict.ok, "\(state): \(verdict)")
  }
}

extension Integration {
  @Suite struct JudgementTests {
    @Test(arguments: ends) func `run and recover come to one judgement, by exit code`(version: Int) throws {
      let judged = try Judged(version: version)
      let server = judged.scene.server
      let drop = "SELECT pg_drop_replication_slot('outboxd');"

      try judged.sql(drop)
      try judged.write()
      try judged.repaired(10, saying: "does not exist")

      try judged.sql("\(drop) DELETE FROM outboxd.checkpoint;")
      try judged.write()
      try judged.repaired(10, saying: "outboxd.checkpoint_history")

      try judged.sql("\(drop) DELETE FROM outboxd.checkpoint; DELETE FROM outboxd.checkpoint_history;")
      try judged.write()
      try judged.repaired(10, saying: "outboxd.job", options: ["--yes-this-is-the-original"])

      try removeSegment(judged)
      try judged.repaired(11, saying: "has already been removed")

      try judged.sql("\(drop) SELECT pg_create_physical_replication_slot('outboxd');")
      try judged.write()
      try judged.refused(12, saying: "physical")
      try judged.sql(drop)
      try judged.repaired(10, saying: "does not exist")

      try judged.write()
      try judged.sql("SELECT pg_replication_slot_advance('outboxd', pg_current_wal_lsn())")
      try judged.repaired(13, saying: "beyond checkpoint")

      try judged.sql("UPDATE outboxd.checkpoint SET system_identifier = '42'")
      try judged.write()
      try judged.repaired(14, saying: "another cluster", options: ["--yes-this-is-the-original"])

      try judged.sql("UPDATE outboxd.checkpoint SET timeline = 7")
      try judged.write()
      try judged.repaired(15, saying: "timeline 7")

      try judged.sql("UPDATE outboxd.checkpoint SET lsn = 'FF/0'")
      try judged.write()
      try judged.repaired(16, saying: "FF/0")

      try damageSegment(judged)
      try judged.refused(17, saying: "--tables")
      try judged.repair("17, damaged WAL", ["--tables"])

      try judged.sql(drop)
      try judged.write()
      try server.set(["wal_level": "replica"])
      try server.restart()
      try judged.refused(17, saying: "wal_level")
      try server.set(["wal_level": "logical"])
      try server.restart()
      try judged.repaired(10, saying: "does not exist")
    }

    @Test(arguments: ends) func `they do for publications, journals, tables and rows`(version: Int) throws {
      let judged = try Judged(version: version)

      try judged.sql("DROP PUBLICATION outboxd")
      try judged.write()
      try judged.refused(18, saying: "CREATE PUBLICATION")
      try judged.scene.workload.initialize(judged.scene.configuration)
      try judged.repaired(19, saying: "created again")

      // Where the journal does not remember the publication, the WAL tells.
      try judged.sql("DROP PUBLICATION outboxd")
      try judged.write()
      try judged.scene.workload.initialize(judged.scene.configuration)
      try judged.sql("UPDATE outboxd.checkpoint SET publication = NULL")
      try judged.repaired(18, saying: "publication")

      try judged.sql("ALTER PUBLICATION outboxd ADD TABLE workload.business")
      try judged.write()
      try judged.refused(19, saying: "workload.business")
      try judged.sql("ALTER PUBLICATION outboxd DROP TABLE workload.business")
      try judged.goOn("19, a table that no outbox names")

      try judged.sql("REVOKE UPDATE ON outboxd.checkpoint FROM outboxd")
      try judged.write()
      try judged.refused(20, saying: "outboxd.checkpoint")
      try judged.sql("GRANT UPDATE ON outboxd.checkpoint TO outboxd")
      try judged.goOn("20")

      try judged.sql("ALTER TABLE public.outbox RENAME payload TO body")
      try judged.sql("INSERT INTO public.outbox VALUES (gen_random_uuid(), 'order', 'renamed', 't', '{}', 1)")
      try judged.refused(22, saying: "payload")
      try judged.sql("ALTER TABLE public.outbox RENAME body TO payload")
      try judged.repaired(22, saying: "payload")

      // A row is given up by nobody but an operator.
      try judged.sql(
        "INSERT INTO public.outbox VALUES (gen_random_uuid(), 'no such/topic', 'none', 't', '{}', 1)")
      try judged.write()
      try judged.refused(23, saying: "outboxd skip --lsn")
      let lsn = try #require(
        try judged.recover([]).errors.firstMatch(of: /skip --lsn ([0-9A-F]+\/[0-9A-F]+)/)
      ).1
      let skip = try OutboxdProcess.command([
        "skip", "--config", judged.path, "--lsn", String(lsn), "--reason", "test", "--to-file",
        TestFolder.make("skip") + "/given-up.jsonl",
      ])
      #expect(skip.status == 0, "\(skip.errors)")
      try judged.sql("DELETE FROM public.outbox WHERE aggregateid = 'none'")
      try judged.goOn("23")
    }

    /// By hand, or by a backup of which only `pg_replslot` was taken.
    private func removeSegment(_ judged: Judged) throws {
      let segment = try judged.sql("SELECT pg_walfile_name(restart_lsn) FROM pg_replication_slots")
      try judged.write()
      try judged.sql("SELECT pg_switch_wal()")
      try judged.write()
      try judged.scene.server.stop()
      try ChildProcess.check(["rm", "\(judged.scene.server.data)/pg_wal/\(segment)"])
      try judged.scene.server.start()
    }

    /// Zeroes behind what the slot needs.
    private func damageSegment(_ judged: Judged) throws {
      let server = judged.scene.server
      try judged.write()
      let place =
        try judged.sql(
          """
          SELECT pg_logical_emit_message(false, 'test', repeat('x', 100000));
          SELECT pg_walfile_name(w) || ' ' || (pg_walfile_name_offset(w)).file_offset / 8192 - 4
          FROM pg_current_wal_insert_lsn() AS w
          """
        ).split(separator: "\n").last?.split(separator: " ") ?? []
      let (segment, page) = try (#require(place.first), #require(place.last))
      try judged.write()
      try judged.sql("SELECT pg_switch_wal()")
      try judged.write()
      try server.stop()
      try ChildProcess.check([
        "dd", "if=/dev/zero", "of=\(server.data)/pg_wal/\(segment)", "bs=8192", "seek=\(page)", "count=1",
        "conv=notrunc", "status=none",
      ])
      try server.start()
    }

    /// The slot is synchronized with the WAL of its last confirmation, and the journal's row comes by replication.
    @Test(arguments: ends.filter { $0 >= 17 })
    func `a failover slot that is ahead of the journal after a promotion goes on, and nothing is sent again`(
      version: Int
    ) throws {
      let scene = try Scene(version: version)
      try scene.server.sql(
        "SELECT pg_create_physical_replication_slot('standby');", database: "shop")
      try ChildProcess.check([
        "psql", "-X", "-q", "-d", scene.server.adminConninfo("shop") + " replication=database", "-c",
        "ALTER_REPLICATION_SLOT outboxd (FAILOVER true)",
      ])
      let standby = try PostgresServer(copyOf: scene.server, withSlots: false, standbySlot: "standby")
      let place =
        "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'outboxd' AND NOT temporary"
      let relay = try scene.start()
      // The slot of the primary must pass the place where the standby's begins.
      try eventually("the slot is synchronized for the first time", within: 60) { () -> Bool? in
        try scene.server.sql(
          "SELECT workload.emit('orders', ARRAY[7, 8, 9], 6); CHECKPOINT;", database: "shop")
        try scene.workload.settle(relay)
        return try standby.sql(place).isEmpty ? nil : true
      }
      let old = try scene.server.sql("SELECT min(lsn) FROM outboxd.checkpoint_history", database: "shop")
      try scene.workload.run(writers: 1, transactions: 10, size: 4, seed: 1)
      try scene.workload.settle(relay)
      #expect(try relay.terminate() == 0)
      try eventually("the slot is synchronized", within: 40) {
        try standby.sql(place) == scene.server.sql(place)
      }
      try scene.server.stop()
      try standby.sql("SELECT pg_promote()")
      // As it is where the standby's WAL ends between the last confirmation and the journal's row.
      try standby.sql("UPDATE outboxd.checkpoint SET lsn = '\(old)'", database: "shop")
      var configuration = scene.configuration
      configuration.conninfo = standby.conninfo("shop")
      let path = try configuration.write()
      let plan = try OutboxdProcess.command(["recover", "--config", path, "--dry-run"])
      #expect(plan.status == 0 && plan.output.contains("nothing is in doubt"), "\(plan.errors)\(plan.output)")
      let second = try OutboxdProcess(configuration)
      try second.waitUntilReady()
      let warning = try #require(
        second.log.first { $0.level == "warning" && $0.text.contains("failover slot") })
      #expect(
        warning.text.contains(old.replacingOccurrences(of: "/", with: "\\/")) || warning.message.contains(old)
      )
      try standby.sql("SELECT workload.emit('orders', ARRAY[7, 8, 9], 12)", database: "shop")
      try Workload.settle(server: standby, database: "shop", relay: second, within: 60)
      #expect(try second.terminate() == 0)
      let verdict = try Workload.judge(
        server: standby, database: "shop", brokers: scene.kafka.bootstrap, prefix: scene.workload.prefix)
      #expect(verdict.ok, "\(verdict)")
    }
  }
}
