// Owns: giving up a transaction that cannot be published: what is lost is that transaction, and it is in a file.
import Foundation
import RelayTesting
import Testing

private let ends = [PostgresServer.versions.first, PostgresServer.versions.last].compactMap(\.self)

extension Integration {
  @Suite struct SkipTests {
    private typealias Row = [String: Any]

    private func skip(_ configuration: RelayConfiguration, _ arguments: String...) throws
      -> ChildProcess.Result
    {
      try OutboxdProcess.command(["skip", "--config", try configuration.write()] + arguments)
    }

    private func rows(_ file: String) throws -> [Row] {
      try String(contentsOfFile: file, encoding: .utf8).split(separator: "\n").map {
        try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? Row)
      }
    }

    /// The LSN for which the relay that halted names `outboxd skip`.
    private func halt(_ relay: OutboxdProcess, code: Int32) throws -> String {
      #expect(try relay.process.wait(seconds: 60) == code, "\(relay.tail)")
      let error = try #require(relay.log.last { $0.level == "error" })
      let match = try #require(
        error.text.firstMatch(of: /outboxd skip --lsn ([0-9A-F]+\\*\/[0-9A-F]+) --reason/), "\(error.text)")
      return match.1.replacingOccurrences(of: "\\", with: "")
    }

    @Test(arguments: ends)
    func `what skip gives up is that transaction alone, and it is in a file and in outboxd.job`(
      version: Int
    ) throws {
      let scene = try Scene(version: version)
      let first = try scene.start()
      try scene.workload.run(writers: 1, transactions: 5, size: 5, seed: 1)
      let early = try skip(scene.configuration, "--lsn", "0/1", "--reason", "test")
      #expect(early.status == 75 && early.errors.contains("Stop outboxd"), "\(early.errors)")
      try scene.workload.settle(first)
      #expect(try first.terminate() == 0)
      let id = "11111111-2222-4333-8444-555555555555"
      try scene.server.sql(
        """
        SELECT workload.emit('orders', ARRAY[1, 2], 3);
        BEGIN;
        INSERT INTO public.outbox VALUES ('\(id)', 'no such/topic', 'a', 't', '{"a": "ü"}', 1);
        SELECT workload.emit('orders', ARRAY[1, 2], 6);
        COMMIT;
        SELECT workload.emit('payments', ARRAY[1, 2], 4);
        """, database: "shop")
      let last = try scene.server.sql("SELECT pg_current_wal_lsn()", database: "shop")
      // Not yet: something before it is not acknowledged, and nothing changes.
      let tooFar = try skip(scene.configuration, "--lsn", "0/1", "--reason", "test")
      #expect(tooFar.status == 1 && tooFar.errors.contains("before the checkpoint"), "\(tooFar.errors)")
      let lsn = try halt(try scene.start(waitUntilReady: false), code: 23)
      let file = TestFolder.make("skip") + "/given-up.jsonl"
      let reasonless = try skip(scene.configuration, "--lsn", lsn, "--to-file", file)
      #expect(reasonless.status == 2 && reasonless.errors.contains("--reason"), "\(reasonless.errors)")
      let nothing = try skip(scene.configuration, "--lsn", last, "--reason", "test")
      #expect(nothing.status == 1, "\(nothing.errors)\(nothing.output)")
      let dry = try skip(
        scene.configuration, "--lsn", lsn, "--reason", "test", "--to-file", file, "--dry-run")
      #expect(dry.status == 0 && dry.output.contains("would give up 7 events"), "\(dry.errors)\(dry.output)")
      #expect(!FileManager.default.fileExists(atPath: file))
      #expect(try halt(try scene.start(waitUntilReady: false), code: 23) == lsn)
      let done = try skip(
        scene.configuration, "--lsn", lsn, "--reason", "it's a test", "--to-file", file, "--json")
      #expect(done.status == 0, "\(done.errors)")
      try expectFile(file, id: id, lsn: lsn)
      let job = try scene.server.sql(
        "SELECT command, events, finished_at IS NOT NULL, request->>'reason', request->>'lsn', request->>'file' "
          + "FROM outboxd.job WHERE command = 'skip'", database: "shop")
      #expect(job == "skip|7|t|it's a test|\(lsn)|\(file)")
      let again = try skip(scene.configuration, "--lsn", lsn, "--reason", "test", "--to-file", file + "2")
      #expect(again.status == 1 && again.errors.contains("was given up before"), "\(again.errors)")
      try scene.workload.settle(try scene.start())
      let verdict = try scene.workload.judge(duplicatesAllowed: true, rewinds: 1)
      #expect(verdict.faults == ["missing": 7], "\(verdict)")
    }

    private func expectFile(_ file: String, id: String, lsn: String) throws {
      let attributes = try FileManager.default.attributesOfItem(atPath: file)
      #expect((attributes[.posixPermissions] as? NSNumber)?.intValue == 0o600)
      let rows = try rows(file)
      #expect(rows.count == 7)
      let bad = try #require(rows.first)
      let columns = try #require(bad["columns"] as? Row)
      #expect(columns["id"] as? String == id && columns["payload"] as? String == #"{"a": "ü"}"#)
      #expect(bad["record"] is NSNull && (bad["fault"] as? String)?.contains("topic") == true)
      #expect(rows.allSatisfy { $0["commit_lsn"] as? String == lsn })
      #expect(rows.compactMap { $0["index"] as? Int } == Array(0..<7))
      for row in rows.dropFirst() {
        let record = try #require(row["record"] as? Row)
        #expect(record["topic"] is String && record["key"] is String && record["value"] is String)
      }
    }

    @Test func `an earlier transaction that is not acknowledged is named, and nothing is given up`() throws {
      let scene = try Scene()
      try scene.server.sql(
        "SELECT workload.emit('orders', ARRAY[1], 1); SELECT workload.emit('orders', ARRAY[1, 2], 2);",
        database: "shop")
      let commits = try scene.server.sql(
        """
        SELECT encode(substring(data FROM 2 FOR 8), 'hex') FROM pg_logical_slot_peek_binary_changes('outboxd',
          NULL, NULL, 'proto_version', '1', 'publication_names', 'outboxd', 'binary', 'true')
        WHERE get_byte(data, 0) = 66
        """, database: "shop"
      ).split(separator: "\n").compactMap { UInt64($0, radix: 16) }.map {
        String($0 >> 32, radix: 16, uppercase: true) + "/"
          + String($0 & 0xFFFF_FFFF, radix: 16, uppercase: true)
      }
      try #require(commits.count == 2)
      let file = TestFolder.make("skip") + "/given-up.jsonl"
      let refused = try skip(scene.configuration, "--lsn", commits[1], "--reason", "test", "--to-file", file)
      #expect(
        refused.status == 1 && refused.errors.contains("at \(commits[0]), with 1 event"), "\(refused.errors)")
      #expect(!FileManager.default.fileExists(atPath: file))
      let verdict = try scene.finish(try scene.start())
      #expect(verdict.ok, "\(verdict)")
    }

    /// Bytes that are no text, and a value that the server cannot send.
    @Test func `a transaction that cannot be decoded is given up, with what could be read of it`() throws {
      let server = try PostgresServer()
      try server.sql("CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0")
      try server.sql(
        "CREATE TABLE outbox (id text, aggregatetype text, aggregateid text, type text, payload bytea, note text)",
        database: "ascii")
      var configuration = RelayConfiguration(conninfo: server.conninfo("ascii"), brokers: "127.0.0.1:1")
      configuration.postgres = ["journal: off"]
      try OutboxdProcess.initialize(configuration, admin: server.adminConninfo("ascii"))
      func commit(_ values: String) throws -> String {
        // The commit's record is the last of the WAL.
        let before = try server.sql(
          """
          SET client_encoding = 'SQL_ASCII'; BEGIN; INSERT INTO outbox VALUES ('a', 'order', 'k', 't', '\\x00ff', 'ok');
          INSERT INTO outbox VALUES \(values); SELECT pg_current_wal_insert_lsn(); COMMIT;
          """, database: "ascii")
        return try #require(before.split(separator: "\n").last.map(String.init))
      }
      let folder = TestFolder.make("skip")
      let text = try commit(#"('b', 'order', 'k', 't', '\x01', E'\377')"#)
      let large = try commit(
        "('c', 'order', 'k', 't', convert_to(repeat('0123456789', 60000000), 'UTF8'), '')")
      for (lsn, name) in [(text, "text"), (large, "large")] {
        let done = try skip(
          configuration, "--lsn", lsn, "--reason", "test", "--to-file", "\(folder)/\(name)")
        #expect(done.status == 0, "\(done.errors)")
      }
      let raw = try rows("\(folder)/text")
      #expect(raw.count == 2)
      #expect(((raw.last?["columns"] as? Row)?["note"] as? Row)?["base64"] as? String == "/w==")
      let cut = try rows("\(folder)/large")
      #expect(cut.count == 2 && cut.last?["rows_before"] as? Int == 1, "\(cut)")
      #expect((cut.last?["fault"] as? String)?.contains("cannot send the rest") == true)
      let rest = try server.integer(
        """
        SELECT count(*) FROM pg_logical_slot_peek_binary_changes('outboxd', NULL, NULL, 'proto_version', '1',
          'publication_names', 'outboxd', 'binary', 'true')
        """, database: "ascii")
      #expect(rest == 0)
    }
  }
}
