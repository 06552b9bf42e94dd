import Foundation
import RelayTesting
import Testing

extension Integration {
  /// What becomes of rows when the publication is changed around them.
  @Suite struct PublicationTests {
    private func replacePublication(_ scene: Scene) throws {
      let tables = try scene.server.sql(
        """
        SELECT string_agg(format('%I.%I', schemaname, tablename), ', ') FROM pg_publication_tables
        WHERE pubname = 'outboxd'
        """, database: "shop")
      try scene.server.sql(
        """
        BEGIN; DROP PUBLICATION outboxd; CREATE PUBLICATION outboxd FOR TABLE \(tables)
        WITH (publish = 'insert', publish_via_partition_root = true); COMMIT
        """, database: "shop")
    }

    @Test(arguments: [15, 18])
    func `rows committed before the publication was created again are delivered`(version: Int) throws {
      guard PostgresServer.versions.contains(version) else { return }
      let scene = try Scene(version: version)
      try scene.workload.run(writers: 1, transactions: 20, size: 3, seed: 1)
      try replacePublication(scene)
      try scene.workload.run(writers: 1, transactions: 20, size: 3, seed: 2)
      // With its journal it would halt: it cannot know that nothing was committed in between.
      let relay = try OutboxdProcess(scene.configuration, environment: ["OUTBOXD_POSTGRES_JOURNAL": "off"])
      try relay.waitUntilReady()
      let verdict = try scene.finish(relay)
      #expect(verdict.ok, "\(verdict)")
    }

    @Test func `a table taken out and added again while the relay runs is an alarm`() throws {
      let scene = try Scene()
      let relay = try scene.start()
      let table = try scene.server.sql(
        """
        SELECT format('%I.%I', schemaname, tablename) FROM pg_publication_tables
        WHERE pubname = 'outboxd' ORDER BY 1 LIMIT 1
        """, database: "shop")
      // Together, so that no check falls in between.
      try scene.server.sql(
        """
        BEGIN; ALTER PUBLICATION outboxd DROP TABLE \(table);
        ALTER PUBLICATION outboxd ADD TABLE \(table); COMMIT
        """, database: "shop")
      #expect(try relay.process.wait(seconds: 40) == 19)
      #expect(relay.tail.contains("taken out and added again"))
    }
  }
}
