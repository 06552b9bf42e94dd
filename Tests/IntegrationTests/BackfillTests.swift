// Owns: what was committed before the slot: published once, whoever writes meanwhile, and whatever interrupts it.
import Foundation
import Glibc
import RelayTesting
import Testing

extension Integration {
  @Suite struct BackfillTests {
    /// Four writers whose transactions stay open for a while before they commit.
    private func startWriters(_ server: PostgresServer, _ database: String, seed: UInt64) throws
      -> [ChildProcess]
    {
      try (1...4).map { worker in
        try server.startSQL(
          """
          DO $$ BEGIN
            PERFORM setseed(\(Double((seed &* 31 &+ UInt64(worker)) % 1000) / 1000));
            WHILE NOT (SELECT stop FROM truth.control) LOOP
              IF workload.step(\(worker), 1 + floor(random() * 16)::int, 60) THEN
                PERFORM pg_sleep(random() * random() * 0.05);
                COMMIT;
              ELSE ROLLBACK; END IF;
            END LOOP;
          END $$;
          """, database: database)
      }
    }

    /// The rows of one INSERT have no order in a table of random ids: only a sequence's values tell it.
    static let number =
      "ALTER TABLE public.outbox ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY UNIQUE"

    @Test(arguments: [PostgresServer.versions.first, PostgresServer.versions.last].compactMap(\.self))
    func `backfill and stream meet without gap or duplicate under four writers, ten seeds`(version: Int)
      throws
    {
      var generator = SeededGenerator("backfill \(version)")
      let server = try PostgresServer(version: version)
      for round in 0..<10 {
        let seed = UInt64.random(in: 0..<1_000_000, using: &generator)
        let name = "s\(round)"
        let workload = try Workload(server: server, kafka: try KafkaCluster.shared(), database: name)
        try server.sql(Self.number, database: name)
        var configuration = workload.configuration()
        configuration.postgres = ["slot: \(name)"]
        let path = try configuration.write()
        let writers = try startWriters(server, name, seed: seed)
        try eventually("rows are there", within: 20) {
          try server.integer("SELECT count(*) FROM public.outbox", database: name) > 50
        }
        // The slot is made by init, or by the backfill itself, or by a DBA, of whose slot only the place is known.
        try workload.initialize(configuration)
        #expect(
          try server.sql(
            "SELECT start_lsn = lsn AND start_snapshot <> '' FROM outboxd.checkpoint", database: name)
            == "t")
        if round % 3 != 0 {
          try server.sql(
            "SELECT pg_drop_replication_slot('\(name)'); DELETE FROM outboxd.checkpoint", database: name)
        }
        if round % 3 == 2 {
          let script = try OutboxdProcess.command(["init", "--config", path, "--role", "outboxd"])
          do {
            try server.sql(script.output, database: name)
          } catch  where "\(error)".contains("is not owned by resource owner") {
            // Postgres mistakes its own bookkeeping where a slot is created by SQL while a catalog is changed: what it did
            // not enter is made again.
            try server.sql("SELECT pg_drop_replication_slot('\(name)')", database: name)
            try server.sql(script.output, database: name)
          }
        }
        let result = try OutboxdProcess.command(["backfill", "--config", path, "--json"], seconds: 120)
        #expect(result.status == 0, "seed \(seed): \(result.errors)\(result.output)")
        try server.sql("UPDATE truth.control SET stop = true", database: name)
        for writer in writers { #expect(try writer.wait(seconds: 30) == 0, "\(writer.errors)") }
        let relay = try OutboxdProcess(configuration)
        try relay.waitUntilReady()
        try workload.settle(relay)
        #expect(try relay.terminate() == 0)
        let verdict = try workload.judge(unsequenced: true)
        #expect(verdict.ok, "round \(round), seed \(seed): \(verdict)")
        try server.sql("SELECT pg_drop_replication_slot('\(name)'); ", database: name)
      }
    }

    @Test(arguments: [SIGINT, SIGKILL])
    func `an interrupted backfill goes on where it stopped`(signal: Int32) throws {
      let scene = try Scene(initialize: false)
      try scene.server.sql(Self.number, database: "shop")
      try scene.workload.run(transactions: 150, size: 20, seed: 11)
      try scene.workload.initialize(scene.configuration)
      let path = try scene.configuration.write()
      let total = try scene.server.integer("SELECT count(*) FROM truth.event", database: "shop")
      let process = try ChildProcess(
        [try OutboxdProcess.binary(), "backfill", "--config", path, "--rate", "\(total / 6)"])
      try eventually("some are sent", within: 30) {
        try scene.server.sql(
          "SELECT coalesce(max(events), 0) > 50 AND bool_or(position IS NOT NULL) FROM outboxd.job",
          database: "shop")
          == "t"
      }
      process.signal(signal)
      #expect(try process.wait(seconds: 30) == (signal == SIGINT ? 130 : -SIGKILL), "\(process.errors)")
      if signal == SIGINT {
        #expect(process.errors.contains("outboxd backfill --resume"), "\(process.errors)")
      }
      let result = try OutboxdProcess.command(["backfill", "--config", path, "--resume"])
      #expect(result.status == 0, "\(result.errors)")
      #expect(try OutboxdProcess.command(["backfill", "--config", path, "--resume"]).status == 2)
      let verdict = try scene.finish(
        try scene.start(), duplicatesAllowed: signal == SIGKILL, unsequenced: true)
      #expect(verdict.ok, "\(verdict)")
      #expect(verdict.messages < total * 2)
    }

    @Test(arguments: [PostgresServer.versions.first, PostgresServer.versions.last].compactMap(\.self))
    func `at a low rate a position is some seconds old at most, and Ctrl-C leaves nothing to send twice`(
      version: Int
    ) throws {
      let scene = try Scene(version: version, initialize: false)
      let total = 900
      try scene.server.sql(Self.number, database: "shop")
      try scene.server.sql(
        "SELECT workload.emit('orders', array_agg(i), \(total)) FROM generate_series(1, 9) i",
        database: "shop")
      try scene.workload.initialize(scene.configuration)
      let path = try scene.configuration.write()
      let file = TestFolder.make("backfill") + "/events"
      func lines() -> Int {
        (try? String(contentsOfFile: file, encoding: .utf8).split(separator: "\n").count) ?? 0
      }
      func stored() throws -> Int {
        try scene.server.integer("SELECT coalesce(max(events), 0) FROM outboxd.job", database: "shop")
      }
      let words = ["backfill", "--config", path]
      let process = try ChildProcess(
        [try OutboxdProcess.binary()] + words + ["--rate", "50", "--to-file", file])
      try eventually("it has begun\n\(process.errors)", within: 60) { try stored() > 0 }
      for _ in 0..<2 {
        let written = lines()
        try eventually("the position has passed \(written) events", within: 5) { try stored() > written }
      }
      process.signal(SIGINT)
      #expect(try process.wait(seconds: 30) == 130, "\(process.errors)")
      #expect(!process.errors.contains("will be sent again"), "\(process.errors)")
      let written = lines()
      #expect(try written < total && stored() == written)
      let result = try OutboxdProcess.command(
        words + ["--resume", "--to-file", file, "--rate", "100000", "--json"])
      #expect(result.status == 0 && result.output.contains("\"sent_before\": \(written)"), "\(result.output)")
      #expect(lines() == total)
    }

    @Test(arguments: [PostgresServer.versions.first, PostgresServer.versions.last].compactMap(\.self))
    func `an outbox is added to a running relay without a gap, and backfill publishes its earlier rows`(
      version: Int
    ) throws {
      let scene = try Scene(version: version, initialize: false)
      var fewer = scene.configuration
      fewer.outboxes = scene.configuration.outboxes.split(separator: "- ", omittingEmptySubsequences: true)
        .filter { !$0.contains("inventory.outbox") }.map { "- \($0)" }.joined()
      try scene.workload.initialize(fewer)
      let relay = try OutboxdProcess(fewer)
      try relay.waitUntilReady()
      try scene.workload.run(transactions: 15, size: 10, seed: 3)
      try scene.workload.settle(relay)
      let writers = try scene.workload.startLoad(seed: 4)
      try scene.workload.initialize(scene.configuration)
      #expect(try relay.process.wait(seconds: 40) == 19, "\(relay.tail)")
      let path = try scene.configuration.write()
      func check() throws -> String {
        try OutboxdProcess.command(["check", "--config", path]).output
      }
      #expect(try check().contains("inventory.outbox joined the publication after the slot began"))
      let result = try OutboxdProcess.command(
        ["backfill", "--outbox", "inventory.outbox", "--config", path, "--json"], seconds: 60)
      #expect(result.status == 0, "\(result.errors)\(result.output)")
      let report = try #require(
        try JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [String: Any])
      let doubtful = try #require(report["rows_in_doubt"] as? Int)
      let next = try scene.start()
      try scene.workload.stopLoad(writers)
      #expect(try !check().contains("joined the publication"))
      let verdict = try scene.finish(next, duplicatesAllowed: true, unsequenced: true)
      #expect(verdict.faults.isEmpty && verdict.duplicates <= doubtful, "\(verdict) \(doubtful)")
      #expect(report["sent"] as? Int ?? 0 > 100)
    }

    @Test func `what was published already is not published again unless that is accepted`() throws {
      let scene = try Scene()
      try scene.server.sql(
        "UPDATE outboxd.checkpoint SET start_lsn = NULL, start_snapshot = NULL", database: "shop")
      let path = try scene.configuration.write()
      let relay = try scene.start()
      try scene.workload.run(writers: 1, transactions: 10, size: 3, seed: 1)
      try scene.workload.settle(relay)
      #expect(try relay.terminate() == 0)
      let refused = try OutboxdProcess.command(["backfill", "--config", path])
      #expect(refused.status == 2 && refused.errors.contains("--accept-duplicates"), "\(refused.errors)")
      let count = try scene.workload.count()
      let counted = try OutboxdProcess.command([
        "backfill", "--config", path, "--accept-duplicates", "--dry-run",
      ])
      #expect(counted.status == 0, "\(counted.errors)")
      #expect(try scene.workload.count() == count)
      #expect(try OutboxdProcess.command(["backfill", "--config", path, "--accept-duplicates"]).status == 0)
      let verdict = try scene.finish(try scene.start(), duplicatesAllowed: true, unsequenced: true)
      #expect(verdict.ok && verdict.messages == verdict.committed * 2, "\(verdict)")
    }
  }
}
