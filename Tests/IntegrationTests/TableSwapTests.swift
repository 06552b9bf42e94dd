// Owns: an outbox table that is swapped under its writers: with the publication, and before it.
import Foundation
import RelayTesting
import Testing

extension Integration {
  @Suite struct TableSwapTests {
    private static let swap = """
      CREATE TABLE public.outbox_new (LIKE public.outbox INCLUDING ALL);
      ALTER TABLE public.outbox RENAME TO outbox_old; ALTER TABLE public.outbox_new RENAME TO outbox;
      ALTER TABLE public.outbox OWNER TO \(Workload.service); GRANT SELECT ON public.outbox TO outboxd_reader;
      """

    /// The truth is in both tables from now on: the view has followed the old one.
    private func followTruth(_ scene: Scene) throws {
      let view = try scene.server.sql("SELECT pg_get_viewdef('truth.orders'::regclass)", database: "shop")
      let both =
        "(SELECT *, xmin FROM public.outbox UNION ALL SELECT *, xmin FROM public.outbox_old) o"
      let new = view.replacingOccurrences(of: "outbox_old o", with: both)
      #expect(new != view)
      try scene.server.sql("CREATE OR REPLACE VIEW truth.orders AS \(new)", database: "shop")
    }

    private func orders(_ scene: Scene) throws -> Int {
      try scene.server.integer("SELECT count(*) FROM public.outbox", database: "shop")
    }

    @Test(arguments: [PostgresServer.versions.first, PostgresServer.versions.last].compactMap(\.self))
    func `a swap in one transaction with the publication is silent, and loses and repeats nothing`(
      version: Int
    ) throws {
      let scene = try Scene(version: version)
      let relay = try scene.start()
      let writers = try scene.workload.startLoad(seed: 5)
      try eventually("there are events", within: 30) { try orders(scene) > 200 }
      try scene.server.sql(
        """
        BEGIN; \(Self.swap) ALTER PUBLICATION outboxd ADD TABLE public.outbox;
        ALTER PUBLICATION outboxd DROP TABLE public.outbox_old; COMMIT
        """, database: "shop")
      try eventually("there are events in the new table", within: 30) { try orders(scene) > 200 }
      try scene.workload.stopLoad(writers)
      try followTruth(scene)
      let verdict = try scene.finish(relay)
      #expect(verdict.ok, "\(verdict)")
    }

    @Test func `a swap that the publication follows later halts, and one recover delivers everything`() throws
    {
      let scene = try Scene(version: try #require(PostgresServer.versions.last))
      let relay = try scene.start()
      try scene.workload.run(writers: 2, transactions: 20, size: 8, seed: 3)
      try scene.server.sql("BEGIN; \(Self.swap) COMMIT", database: "shop")
      try scene.workload.run(writers: 2, transactions: 10, size: 8, seed: 4)
      try scene.server.sql(
        """
        BEGIN; ALTER PUBLICATION outboxd ADD TABLE public.outbox;
        ALTER PUBLICATION outboxd DROP TABLE public.outbox_old; COMMIT
        """, database: "shop")
      #expect(try relay.process.wait(seconds: 40) == 19)
      #expect(relay.tail.contains("public.outbox was replaced by another table"), "\(relay.tail)")
      let path = try scene.configuration.write()
      let recovered = try OutboxdProcess.command(["recover", "--config", path])
      #expect(recovered.status == 0, "\(recovered.errors)\(recovered.output)")
      #expect(recovered.output.contains("public.outbox_old, which had rows of public.outbox"))
      let again = try OutboxdProcess.command(["recover", "--config", path])
      #expect(again.output.contains("nothing is in doubt"), "\(again.output)")
      try followTruth(scene)
      let next = try scene.start()
      let verdict = try scene.finish(next, duplicatesAllowed: true, unsequenced: true)
      #expect(verdict.faults.isEmpty, "\(verdict)")
    }
  }
}
