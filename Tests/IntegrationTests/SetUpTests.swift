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
