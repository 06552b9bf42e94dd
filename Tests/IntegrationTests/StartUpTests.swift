// Owns: refusals to start: exit code, words, remedy; and what is waited for instead.
import Foundation
import RelayTesting
import Testing

extension Integration {
  /// Every refusal has its own exit code, says what is wrong, and says what to do.
  @Suite struct StartUpTests {
    /// A relay that has delivered something and has stopped in good order: there is a checkpoint.
    private func sceneWithCheckpoint() throws -> Scene {
      let scene = try Scene()
      let relay = try scene.start()
      try scene.workload.run(writers: 1, transactions: 5, size: 3, seed: 1)
      try scene.workload.settle(relay)
      #expect(try relay.terminate() == 0)
      return scene
    }

    private func expectRefusal(
      _ scene: Scene, code: Int32, saying words: String..., location: SourceLocation = #_sourceLocation
    ) throws {
      let relay = try OutboxdProcess(scene.configuration)
      let status = try relay.process.wait(seconds: 30)
      #expect(status == code, "\(relay.tail)", sourceLocation: location)
      let error = relay.log.last { $0.level == "error" }
      #expect(error != nil, "no error in the log: \(relay.tail)", sourceLocation: location)
      #expect(
        error?.fields["remedy"]?.isEmpty == false, "no remedy: \(relay.tail)", sourceLocation: location)
      for word in words {
        #expect(error?.text.contains(word) == true, "no \(word) in \(relay.tail)", sourceLocation: location)
      }
    }

    @Test func `a slot that was dropped is not made again in silence`() throws {
      let scene = try sceneWithCheckpoint()
      try scene.server.sql("SELECT pg_drop_replication_slot('outboxd')")
      try scene.workload.run(writers: 1, transactions: 5, size: 3, seed: 2)
      try expectRefusal(scene, code: 10, saying: "outboxd", "slot")
      #expect(try scene.server.sql("SELECT count(*) FROM pg_replication_slots") == "0")
    }

    @Test func `a slot that was dropped and made again shows as a gap`() throws {
      let scene = try sceneWithCheckpoint()
      try scene.server.sql("SELECT pg_drop_replication_slot('outboxd')")
      try scene.workload.run(writers: 1, transactions: 5, size: 3, seed: 2)
      try scene.server.sql(
        "SELECT pg_create_logical_replication_slot('outboxd', 'pgoutput')", database: "shop")
      try expectRefusal(scene, code: 13, saying: "outboxd", "/")
    }

    @Test func `a slot that somebody advanced shows as a gap`() throws {
      let scene = try sceneWithCheckpoint()
      try scene.workload.run(writers: 1, transactions: 5, size: 3, seed: 2)
      try scene.server.sql(
        "SELECT pg_replication_slot_advance('outboxd', pg_current_wal_lsn())", database: "shop")
      try expectRefusal(scene, code: 13, saying: "outboxd", "/")
      // Nothing has moved: the same refusal comes again.
      try expectRefusal(scene, code: 13)
    }

    @Test func `a slot without its checkpoint is streamed only if it never was`() throws {
      let scene = try Scene()
      try scene.workload.run(writers: 1, transactions: 5, size: 3, seed: 1)
      let verdict = try scene.finish(try scene.start())
      #expect(verdict.ok, "\(verdict)")
    }

    @Test func `a slot of another plugin, and one of another database`() throws {
      let scene = try Scene()
      try scene.server.sql(
        """
        SELECT pg_create_logical_replication_slot('decoded', 'test_decoding');
        SELECT pg_create_physical_replication_slot('physical');
        """, database: "shop")
      try scene.server.sql("SELECT pg_create_logical_replication_slot('elsewhere', 'pgoutput')")
      for slot in ["decoded", "physical", "elsewhere"] {
        scene.configuration.postgres = ["slot: \(slot)"]
        try expectRefusal(scene, code: 12, saying: slot)
      }
    }

    @Test func `publications that are missing, or publish less than the outboxes`() throws {
      let scene = try Scene()
      try scene.server.sql("ALTER PUBLICATION outboxd DROP TABLE payments.outbox_events", database: "shop")
      try expectRefusal(scene, code: 19, saying: "payments.outbox_events", "ALTER PUBLICATION")
      try scene.server.sql(
        """
        ALTER PUBLICATION outboxd ADD TABLE payments.outbox_events;
        ALTER PUBLICATION outboxd SET (publish = 'update');
        """, database: "shop")
      try expectRefusal(scene, code: 19, saying: "insert", "ALTER PUBLICATION")
      try scene.server.sql(
        "ALTER PUBLICATION outboxd SET (publish = 'insert', publish_via_partition_root = false)",
        database: "shop")
      try expectRefusal(scene, code: 19, saying: "publish_via_partition_root")
      try scene.server.sql(
        """
        ALTER PUBLICATION outboxd SET (publish_via_partition_root = true);
        ALTER PUBLICATION outboxd SET TABLE public.outbox WHERE (version > 5), payments.outbox_events,
          inventory.outbox, notifications.messages;
        """, database: "shop")
      try expectRefusal(scene, code: 19, saying: "public.outbox")
      try scene.server.sql("DROP PUBLICATION outboxd", database: "shop")
      try expectRefusal(scene, code: 18, saying: "outboxd", "CREATE PUBLICATION")
    }

    @Test(arguments: [PostgresServer.versions.first, PostgresServer.versions.last].compactMap(\.self))
    func `a publication that is dropped while the relay runs is an alarm, not a silent gap`(version: Int)
      throws
    {
      let scene = try Scene(version: version)
      let relay = try scene.start()
      try scene.workload.run(writers: 1, transactions: 5, size: 3, seed: 1)
      try scene.workload.settle(relay)
      try scene.server.sql("DROP PUBLICATION outboxd", database: "shop")
      try scene.workload.run(writers: 1, transactions: 5, size: 3, seed: 2)
      let status = try relay.process.wait(seconds: 60)
      #expect([18, 19].contains(status), "\(relay.tail)")
      #expect(relay.log.contains { $0.level == "error" && $0.fields["remedy"] != nil })
    }

    @Test func `a table that cannot serve halts at its first row, at the latest`() throws {
      let scene = try Scene()
      try scene.server.sql(
        """
        DROP VIEW truth.event, truth.orders;
        ALTER TABLE public.outbox RENAME payload TO body;
        INSERT INTO public.outbox VALUES (gen_random_uuid(), 'order', 'a', 't', '{}', 1);
        """, database: "shop")
      try expectRefusal(scene, code: 22, saying: "public.outbox", "payload")
    }

    @Test func `a server without logical decoding`() throws {
      let scene = try Scene(settings: ["wal_level": "replica"], initialize: false)
      try scene.server.sql("CREATE ROLE outboxd LOGIN REPLICATION")
      try expectRefusal(scene, code: 17, saying: "wal_level", "logical")
    }

    @Test func `another server with the checkpoint of this one`() throws {
      let scene = try sceneWithCheckpoint()
      let other = try Scene()
      // The same database elsewhere: a restored dump.
      let rows = scene.server.folder + "/journal"
      try scene.server.sql("COPY outboxd.checkpoint TO '\(rows)'", database: "shop")
      try other.server.sql(
        "DELETE FROM outboxd.checkpoint; COPY outboxd.checkpoint FROM '\(rows)'", database: "shop")
      try expectRefusal(other, code: 14, saying: "another cluster")
    }

    @Test func `a missing journal where it is required`() throws {
      let scene = try Scene()
      try scene.server.sql("DROP TABLE outboxd.checkpoint CASCADE", database: "shop")
      scene.configuration.postgres = ["journal: required"]
      try expectRefusal(scene, code: 20, saying: "outboxd.checkpoint")
    }

    @Test func `without a journal the relay runs, and says what it cannot promise`() throws {
      let scene = try Scene()
      scene.configuration.postgres = ["journal: \"off\""]
      let relay = try scene.start()
      #expect(relay.log.contains { $0.level == "warning" && $0.text.contains("journal") }, "\(relay.tail)")
      try scene.workload.run(writers: 2, transactions: 20, size: 10, seed: 3)
      let verdict = try scene.finish(relay)
      #expect(verdict.ok, "\(verdict)")
    }

    @Test func `servers that are away are waited for`() throws {
      let scene = try Scene()
      try scene.server.stop()
      scene.configuration.properties["bootstrap.servers"] = "127.0.0.1:\(try freePort())"
      let relay = try scene.start(waitUntilReady: false)
      try relay.waitUntilNotReady()
      #expect(try relay.get("/livez").status == 200)
      try scene.server.start()
      try relay.waitForLog("the stream has started") { _ in
        (try? scene.server.sql("SELECT active FROM pg_replication_slots")) == "t"
      }
      #expect(try relay.terminate() == 0)
    }

    @Test func `a wrong password is waited out, and named`() throws {
      let scene = try Scene()
      try scene.server.sql("ALTER ROLE outboxd PASSWORD 'right'")
      try scene.server.write(
        "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n", to: "pg_hba.conf")
      try scene.server.reload()
      let file = TestFolder.make("secret") + "/password"
      try Data("wrong\n".utf8).write(to: URL(fileURLWithPath: file))
      scene.configuration.postgres = ["password_file: \(file)"]
      let relay = try scene.start(waitUntilReady: false)
      try relay.waitForLog("the refusal") { $0.text.contains("password authentication failed") }
      try Data("right\n".utf8).write(to: URL(fileURLWithPath: file))
      try relay.waitUntilReady()
      #expect(!relay.logText.contains("wrong"))
      #expect(try relay.terminate() == 0)
    }
  }

  @Suite struct ConfigurationTests {
    @Test func `faults come all at once, with their places, and exit code 78`() throws {
      let path = TestFolder.make("bad") + "/outboxd.yaml"
      let text = """
        postgres:
          conninfo: dbname=shop
          slott: x
        kafka:
          properties: {bootstrap.servers: "127.0.0.1:1", acks: 0}
        outboxes:
          - table: public.outbox
            topic: "{unclosed"
        """
      try Data(text.utf8).write(to: URL(fileURLWithPath: path))
      let result = try OutboxdProcess.command(["run", "--config", path])
      #expect(result.status == 78)
      #expect(result.errors.contains("outboxd.yaml:3:3"), "\(result.errors)")
      #expect(result.errors.contains("slot"), "\(result.errors)")
      #expect(result.errors.contains("outboxd.yaml:5:"), "\(result.errors)")
      #expect(result.errors.contains("outboxd.yaml:8:"), "\(result.errors)")
      #expect(result.output.isEmpty)
    }

    @Test func `a missing file and a wrong option`() throws {
      #expect(try OutboxdProcess.command(["run", "--config", "/does/not/exist.yaml"]).status == 78)
      let result = try OutboxdProcess.command(["run", "--confg", "x"])
      #expect(result.status == 2)
      #expect(result.errors.contains("--config"))
    }
  }
}
