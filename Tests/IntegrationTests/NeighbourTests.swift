// Owns: what outboxd leaves alone: other relays' publications, slots and rows; and slots that are half made.
import Foundation
import Glibc
import RelayTesting
import Testing

private let ends = [PostgresServer.versions.first, PostgresServer.versions.last].compactMap(\.self)

extension Integration {
  @Suite struct NeighbourTests {
    private let table =
      "(id uuid DEFAULT gen_random_uuid(), aggregatetype text, aggregateid text, type text, payload jsonb)"

    private func configuration(
      _ server: PostgresServer, _ kafka: KafkaCluster, database: String = "shop", name: String, table: String,
      publication: String? = nil, slot: String? = nil
    ) -> RelayConfiguration {
      var configuration = RelayConfiguration(
        conninfo: server.conninfo(database), brokers: kafka.bootstrap,
        outboxes: "- {table: \(table), topic: neighbours.\(name)}")
      configuration.postgres = ["slot: \(slot ?? name)", "publication: \(publication ?? name)"]
      return configuration
    }

    private func initialize(
      _ configuration: RelayConfiguration, _ server: PostgresServer, database: String = "shop"
    ) throws -> ChildProcess.Result {
      try OutboxdProcess.command([
        "init", "--config", try configuration.write(), "--apply", "--as", server.adminConninfo(database),
      ])
    }

    /// Everything that another relay could notice.
    private func state(_ server: PostgresServer) throws -> String {
      try server.sql(
        """
        SELECT pubname, pubinsert, pubupdate, pubviaroot, xmin FROM pg_publication ORDER BY 1;
        SELECT pubname, tablename FROM pg_publication_tables ORDER BY 1, 2;
        SELECT slot_name, database FROM pg_replication_slots ORDER BY 1;
        SELECT nspname FROM pg_namespace WHERE nspname = 'outboxd';
        SELECT rolname FROM pg_roles WHERE rolname NOT LIKE 'pg%' ORDER BY 1;
        """, database: "shop")
    }

    @Test(arguments: ends)
    func `init refuses what is another's, and changes nothing`(version: Int) throws {
      let server = try PostgresServer(version: version)
      try server.sql("CREATE DATABASE shop; CREATE DATABASE other; CREATE DATABASE alien")
      let kafka = try KafkaCluster.shared()
      try server.sql("CREATE TABLE a \(table); CREATE TABLE b \(table)", database: "shop")
      try server.sql("CREATE TABLE a \(table)", database: "other")
      let first = configuration(server, kafka, name: "a", table: "public.a")
      let done = try initialize(first, server)
      #expect(done.status == 0, "\(done.errors)")
      try server.sql(
        "CREATE PUBLICATION foreign_one FOR TABLE b WITH (publish = 'insert, update')", database: "shop")
      let before = try state(server)
      func expectRefusal(
        _ configuration: RelayConfiguration, database: String = "shop", _ words: String...,
        location: SourceLocation = #_sourceLocation
      ) throws {
        let refused = try initialize(configuration, server, database: database)
        #expect(refused.status == 1, "\(refused.errors)\(refused.output)", sourceLocation: location)
        for word in words + ["nothing was changed"] {
          #expect(refused.errors.contains(word), "\(refused.errors)", sourceLocation: location)
        }
        #expect(try state(server) == before, sourceLocation: location)
      }
      // A's publication, named by B: by init, and by a DBA who does not stop at errors.
      let second = configuration(server, kafka, name: "b", table: "public.b", publication: "a")
      try expectRefusal(second, "publishes public.a", "postgres.publication")
      let printed = try OutboxdProcess.command(["init", "--config", try second.write()])
      _ = try? server.sql(
        "\\set ON_ERROR_STOP off\n"
          + printed.output.replacingOccurrences(of: "\\set ON_ERROR_STOP on\n", with: ""),
        database: "shop")
      let members = "SELECT tablename FROM pg_publication_tables WHERE pubname = 'a'"
      #expect(try server.sql(members, database: "shop") == "a")
      try server.sql("SELECT pg_drop_replication_slot('b')", database: "shop")
      // Both tables, where A reads them already: its publication would have to be altered.
      var both = configuration(server, kafka, name: "b", table: "public.b", publication: "a")
      both.outboxes += "\n- {table: public.a, topic: neighbours.a}"
      let relay = try OutboxdProcess(first)
      try relay.waitUntilReady()
      try expectRefusal(both, "slot a")
      #expect(try relay.terminate() == 0)
      let elsewhere = configuration(server, kafka, database: "other", name: "c", table: "public.a", slot: "a")
      try expectRefusal(elsewhere, database: "other", "belongs to database shop", "postgres.slot")
      let alien = configuration(server, kafka, database: "alien", name: "d", table: "public.a")
      try server.sql(
        "CREATE TABLE a \(table); CREATE SCHEMA outboxd; CREATE TABLE outboxd.checkpoint (slot int)",
        database: "alien")
      try expectRefusal(alien, database: "alien", "the schema outboxd was not made by outboxd")
    }

    @Test func `what --remove prints takes one relay away, and the other goes on`() throws {
      let server = try PostgresServer()
      try server.sql("CREATE DATABASE shop")
      let kafka = try KafkaCluster.shared()
      try server.sql("CREATE TABLE a \(table); CREATE TABLE b \(table)", database: "shop")
      let first = configuration(server, kafka, name: "a", table: "public.a")
      let second = configuration(server, kafka, name: "b", table: "public.b")
      for each in [first, second] {
        let done = try initialize(each, server)
        #expect(done.status == 0, "\(done.errors)")
      }
      let staying = try OutboxdProcess(first)
      let leaving = try OutboxdProcess(second)
      try staying.waitUntilReady()
      try leaving.waitUntilReady()
      func remove(_ configuration: RelayConfiguration) throws {
        let printed = try OutboxdProcess.command(["init", "--config", try configuration.write(), "--remove"])
        #expect(printed.status == 0, "\(printed.errors)")
        try server.sql(printed.output, database: "shop")
      }
      #expect(throws: (any Error).self) { try remove(second) }
      #expect(try server.integer("SELECT count(*) FROM outboxd.checkpoint", database: "shop") == 2)
      #expect(try leaving.terminate() == 0)
      try eventually("the slot is free", within: 20) {
        try server.sql("SELECT active FROM pg_replication_slots WHERE slot_name = 'b'") == "f"
      }
      try remove(second)
      #expect(try server.sql("SELECT slot_name FROM pg_replication_slots") == "a")
      #expect(try server.sql("SELECT pubname FROM pg_publication", database: "shop") == "a")
      #expect(try server.sql("SELECT slot FROM outboxd.checkpoint", database: "shop") == "a")
      try server.sql(
        "INSERT INTO a (aggregatetype, aggregateid, type) VALUES ('a', 'k', 't')", database: "shop")
      try eventually("the other relay goes on", within: 30) {
        try staying.metric("outboxd_events_delivered_total") ?? 0 >= 1
      }
      #expect(try staying.terminate() == 0)
      try remove(first)
      let rest = try server.sql(
        "SELECT slot_name::text FROM pg_replication_slots UNION ALL SELECT pubname FROM pg_publication "
          + "UNION ALL SELECT nspname FROM pg_namespace WHERE nspname = 'outboxd'", database: "shop")
      #expect(rest.isEmpty, "\(rest)")
    }

    @Test(arguments: ends)
    func `init and run behind an old transaction name it, and end at a signal without a trace`(
      version: Int
    ) throws {
      let scene = try Scene(version: version)
      try scene.server.sql(
        "SELECT pg_drop_replication_slot('outboxd'); DELETE FROM outboxd.checkpoint; "
          + "ALTER ROLE outboxd SET lock_timeout = '100ms'", database: "shop")
      try scene.server.sql(
        "BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'old one'", database: "postgres")
      let path = try scene.configuration.write()
      let initialize = try ChildProcess([
        try OutboxdProcess.binary(), "init", "--config", path, "--apply", "--as",
        scene.server.adminConninfo("shop"),
      ])
      try eventually("init names it: \(initialize.errors)", within: 20) {
        initialize.errors.contains("old one")
      }
      initialize.signal(SIGINT)
      #expect(try initialize.wait(seconds: 10) == 130, "\(initialize.errors)")
      #expect(try scene.server.integer("SELECT count(*) FROM pg_replication_slots") == 0)
      let relay = try scene.start(waitUntilReady: false)
      try relay.waitUntilNotReady(containing: "old one")
      let status = try OutboxdProcess.command(["status", "--config", path])
      #expect(status.status == 1 && status.output.contains("is being created"), "\(status.output)")
      let check = try OutboxdProcess.command(["check", "--config", path])
      #expect(check.status == 1 && check.output.contains("ROLLBACK PREPARED 'old one'"), "\(check.output)")
      #expect(try relay.terminate(within: 15) == 0, "\(relay.tail)")
      #expect(try scene.server.integer("SELECT count(*) FROM pg_replication_slots") == 0)
      try scene.server.sql("ROLLBACK PREPARED 'old one'")
      let verdict = try scene.finish(try scene.start())
      #expect(verdict.ok, "\(verdict)")
    }
  }
}
