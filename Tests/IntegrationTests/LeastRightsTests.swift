// Owns: that what `outboxd init` grants is what the commands need, grant by grant.
import Foundation
import RelayTesting
import Testing

extension Integration {
  @Suite struct LeastRightsTests {
    private struct Grant {
      var privilege: String
      /// As it stands in the statement: `SCHEMA "public"`, `outboxd.job`.
      var object: String
      var role: String

      func statement(_ verb: String) -> String {
        "\(verb) \(privilege) ON \(object) \(verb == "GRANT" ? "TO" : "FROM") \(role);"
      }
    }

    /// What init prints.
    private func grants(_ script: String) -> [Grant] {
      script.matches(of: /GRANT ([A-Z, ]+) ON ((?:SCHEMA )?[^ ;]+) TO ([^ ;]+);/).flatMap { match in
        match.1.split(separator: ", ").map {
          Grant(privilege: String($0), object: String(match.2), role: String(match.3))
        }
      }
    }

    @Test(arguments: [PostgresServer.versions.first, PostgresServer.versions.last].compactMap(\.self))
    func `each command works with what init grants, and says so where one of it is taken away`(version: Int)
      throws
    {
      let scene = try Scene(version: version, initialize: false)
      scene.configuration.postgres = ["journal: required"]
      let path = try scene.configuration.write()
      let window = ["OUTBOXD_REPLAY_WINDOW": "1h"]
      func run(_ arguments: String...) throws -> ChildProcess.Result {
        try OutboxdProcess.command(arguments + ["--config", path], environment: window)
      }
      func expectSuccess(_ result: ChildProcess.Result, _ location: SourceLocation = #_sourceLocation) {
        #expect(result.status == 0, "\(result.errors)\(result.output)", sourceLocation: location)
      }
      let script = try run("init").output
      // What PUBLIC has by default would hide that a grant is lacking.
      try scene.server.sql(
        "REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO \(Workload.service); \(script)",
        database: "shop")
      let relay = try OutboxdProcess(scene.configuration, environment: window)
      try relay.waitUntilReady()
      // As the relay enters it every ten seconds.
      try scene.server.sql(
        """
        INSERT INTO outboxd.checkpoint_history (slot, lsn, snapshot, snapshot_lsn, system_identifier, timeline)
        SELECT slot, lsn, pg_current_snapshot()::text, lsn, system_identifier, timeline FROM outboxd.checkpoint
        """, database: "shop")
      let start = try scene.server.sql("SELECT pg_current_wal_insert_lsn()", database: "shop")
      try scene.workload.run(writers: 1, transactions: 5, size: 5, seed: 1)
      try scene.workload.settle(relay)
      for result in [try run("check"), try run("status"), try run("slot", "show")] { expectSuccess(result) }
      expectSuccess(try run("replay", "--source", "wal", "--from", start, "--dry-run"))
      #expect(try relay.terminate() == 0)

      try scene.server.sql(
        "INSERT INTO public.outbox VALUES (gen_random_uuid(), 'no such/topic', 'a', 't', '{}', 1)",
        database: "shop")
      let halted = try OutboxdProcess(scene.configuration, environment: window)
      #expect(try halted.process.wait(seconds: 60) == 23, "\(halted.tail)")
      let match = try #require(
        halted.tail.firstMatch(of: /outboxd skip --lsn ([0-9A-F]+\\*\/[0-9A-F]+) --reason/), "\(halted.tail)")
      let file = TestFolder.make("skip") + "/given-up.jsonl"
      expectSuccess(
        try run(
          "skip", "--lsn", match.1.replacingOccurrences(of: "\\", with: ""), "--reason", "test", "--to-file",
          file))
      // The row stays in the table, where no topic can be made of it either.
      try scene.server.sql("DELETE FROM public.outbox WHERE aggregatetype LIKE '%/%'", database: "shop")

      let tooEarly = try run("replay", "--source", "table", "--from", "2001-01-01T00:00:00Z", "--dry-run")
      let place = try #require(
        tooEarly.errors.firstMatch(of: /tables can be read from ([0-9A-F]+\/[0-9A-F]+)/), "\(tooEarly.errors)"
      )
      expectSuccess(try run("replay", "--source", "table", "--from", String(place.1), "--dry-run"))
      expectSuccess(try run("backfill", "--accept-duplicates", "--dry-run"))
      expectSuccess(try run("recover", "--tables"))

      let list = grants(script)
      #expect(Set(list.map(\.role)) == ["\"outboxd\"", "\"outboxd_reader\""])
      for grant in list {
        try scene.server.sql(grant.statement("REVOKE"), database: "shop")
        let isJournal = grant.object.contains("outboxd")
        #expect(grant.role == (isJournal ? "\"outboxd\"" : "\"outboxd_reader\""))
        let result = try run("backfill", "--accept-duplicates", "--dry-run")
        try scene.server.sql(grant.statement("GRANT"), database: "shop")
        #expect(
          result.status == (isJournal ? 20 : 77),
          "\(grant.statement("REVOKE")) \(result.output)\(result.errors)")
        #expect(
          (result.output + result.errors).contains(isJournal ? "lacks rights on outboxd." : "may not read"),
          "\(grant.statement("REVOKE")) \(result.output)\(result.errors)")
      }
      expectSuccess(try run("check"))
    }
  }
}
