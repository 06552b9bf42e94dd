// Owns: init, check and status against real databases.
import Foundation
import RelayTesting
import Testing

extension Integration {
  @Suite struct SetUpTests {
    @Test(arguments: PostgresServer.versions)
    func `the SQL that init prints runs in psql, twice, and check finds nothing wrong`(version: Int) throws {
      let scene = try Scene(version: version, initialize: false)
      let path = try scene.configuration.write()
      let printed = try OutboxdProcess.command(["init", "--config", path])
      #expect(printed.status == 0, "\(printed.errors)")
      for _ in 0..<2 { try scene.server.sql(printed.output, database: "shop") }
      let check = try OutboxdProcess.command(["check", "--config", path, "--json"])
      #expect(check.status == 0, "\(check.output)\(check.errors)")
      #expect(throws: Never.self) { try JSONSerialization.jsonObject(with: Data(check.output.utf8)) }
      let relay = try scene.start()
      let status = try OutboxdProcess.command(["status", "--config", path, "--json"])
      #expect(status.status == 0, "\(status.errors)")
      try scene.workload.run(writers: 1, transactions: 5, size: 5, seed: 1)
      let verdict = try scene.finish(relay)
      #expect(verdict.ok, "\(verdict)")
    }

    @Test func `init --apply does everything or nothing, and tells what was there`() throws {
      let server = try PostgresServer()
      try server.sql("CREATE DATABASE shop")
      try server.sql("CREATE ROLE clerk LOGIN")
      let configuration = RelayConfiguration(
        conninfo: server.conninfo("shop", user: "outboxd"), brokers: "127.0.0.1:1")
      let path = try configuration.write()
      func apply(_ conninfo: String) throws -> ChildProcess.Result {
        try OutboxdProcess.command(["init", "--config", path, "--apply", "--as", conninfo])
      }
      func expectNothing(_ location: SourceLocation = #_sourceLocation) throws {
        let count =
          "(SELECT count(*) FROM pg_roles WHERE rolname = 'outboxd') + (SELECT count(*) FROM pg_publication) "
          + "+ (SELECT count(*) FROM pg_replication_slots) + (SELECT count(*) FROM pg_namespace "
          + "WHERE nspname = 'outboxd')"
        #expect(try server.integer("SELECT \(count)", database: "shop") == 0, sourceLocation: location)
      }
      let tableless = try apply(server.adminConninfo("shop"))
      #expect(tableless.status == 1 && tableless.errors.contains("sql/01_outbox.sql"), "\(tableless.errors)")
      try expectNothing()
      let elsewhere = try apply(server.adminConninfo("postgres"))
      #expect(elsewhere.status == 1 && elsewhere.errors.contains("dbname=shop"), "\(elsewhere.errors)")
      try server.sql(
        "CREATE TABLE outbox (id uuid, aggregatetype text, aggregateid text, type text, payload jsonb)",
        database: "shop")
      let refused = try apply(server.conninfo("shop", user: "clerk"))
      #expect(refused.status == 77 && refused.errors.contains("needs a superuser"), "\(refused.errors)")
      try expectNothing()
      let first = try apply(server.adminConninfo("shop"))
      #expect(first.status == 0 && first.output.contains("created        The slot"), "\(first.errors)")
      let second = try apply(server.adminConninfo("shop"))
      #expect(second.status == 0 && !second.output.contains("created"), "\(second.output)")
      #expect(second.output.contains("already there  The slot"))
      try server.stop(.immediate)
    }

    @Test func `the set-up of the manual passes check --strict, and a role that has too much does not`()
      throws
    {
      let scene = try Scene()
      // The topics are there, and the relay writes to no others.
      let relay = try scene.start()
      try scene.workload.run(writers: 1, transactions: 20, size: 5, seed: 1)
      _ = try scene.finish(relay)
      scene.configuration.kafka.append("allowed_topics: [\(scene.workload.prefix).*]")
      // What check would warn of otherwise.
      scene.configuration.outboxes = scene.configuration.outboxes.replacingOccurrences(
        of: "time: occurred}", with: "time: occurred, time_zone: UTC}")
      func check(_ options: String...) throws -> (status: Int32, warnings: [String], isOK: Bool?) {
        let result = try OutboxdProcess.command(
          ["check", "--config", try scene.configuration.write(), "--json"] + options)
        let report = try JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [String: Any]
        let findings = report?["findings"] as? [[String: Any]] ?? []
        let warnings = findings.filter { $0["level"] as? String != "ok" }.map {
          "\($0["subject"] ?? ""): \($0["message"] ?? "")"
        }
        return (result.status, warnings, report?["ok"] as? Bool)
      }
      let strict = try check("--strict")
      #expect(strict.status == 0 && strict.isOK == true, "\(strict.warnings)")
      try scene.server.sql("ALTER ROLE outboxd CREATEDB")
      let lenient = try check()
      #expect(lenient.status == 0 && lenient.isOK == true)
      #expect(lenient.warnings.contains { $0.hasPrefix("security: ") && $0.contains("CREATEDB") })
      let refused = try check("--strict")
      #expect(refused.status == 1 && refused.isOK == false)
    }

    @Test func `check names what is wrong, with the remedy`() throws {
      let scene = try Scene()
      try scene.server.sql("ALTER PUBLICATION outboxd DROP TABLE inventory.outbox", database: "shop")
      let check = try OutboxdProcess.command(["check", "--config", try scene.configuration.write()])
      #expect(check.status == 1, "\(check.output)")
      #expect(check.output.contains("inventory.outbox"))
      #expect(check.output.contains("ALTER PUBLICATION"))
    }
  }
}
