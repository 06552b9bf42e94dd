// Owns: tables, names and values as real databases have them, from the insert to the message.
import Foundation
import RelayTesting
import Testing

private let ends = [PostgresServer.versions.first, PostgresServer.versions.last].compactMap(\.self)

extension Integration {
  @Suite struct ValueTests {
    private struct Place {
      let server: PostgresServer
      var configuration: RelayConfiguration

      func command(_ words: String...) throws -> (status: Int32, output: String, errors: String) {
        let result = try OutboxdProcess.command(words + ["--config", try configuration.write()])
        return (result.status, result.output, result.errors)
      }

      /// The messages that a backfill of everything makes.
      func messages() throws -> [[String: Any]] {
        let result = try command("backfill", "--to-file", "-", "--accept-duplicates")
        guard result.status == 0 else { throw HarnessError("\(result.errors)") }
        return try result.output.split(separator: "\n").map {
          try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
        }
      }
    }

    private func place(
      version: Int = PostgresServer.defaultVersion, setup: String, database: String = "postgres",
      outboxes: String = ""
    ) throws -> Place {
      let kafka = try KafkaCluster.shared()
      let server = try PostgresServer(version: version)
      try server.sql(setup)
      var configuration = RelayConfiguration(
        conninfo: server.conninfo("'\(database)'"), brokers: kafka.bootstrap, outboxes: outboxes)
      configuration.level = "info"
      return Place(server: server, configuration: configuration)
    }

    private static func header(_ name: String, of message: [String: Any]) -> String? {
      (message["headers"] as? [[String: Any]])?.first { $0["name"] as? String == name }?["value"] as? String
    }

    private static func outbox(_ time: String) -> String {
      """
      CREATE TABLE outbox (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), aggregatetype text DEFAULT 'values',
        aggregateid text DEFAULT 'a', type text DEFAULT 't', payload jsonb DEFAULT '{}', \(time));

      """
    }

    @Test(arguments: ends)
    func `a time without zone is read in the zone that was declared, and selects nothing before`(version: Int)
      throws
    {
      var place = try place(
        version: version,
        setup: Self.outbox("created_at timestamp DEFAULT now()")
          + "ALTER DATABASE postgres SET timezone = 'America/New_York'",
        outboxes: "- table: public.outbox\n  topic: \(TestTools.uniqueName("zone"))")
      try OutboxdProcess.initialize(place.configuration, admin: place.server.adminConninfo())
      let relay = try OutboxdProcess(place.configuration)
      try relay.waitUntilReady()
      #expect(
        relay.log.contains {
          $0.level == "warning" && $0.text.contains("without time zone")
            && $0.text.contains("America/New_York")
        }, "\(relay.tail)")
      #expect(try relay.terminate() == 0)
      try place.server.sql(
        "SELECT pg_drop_replication_slot('outboxd'); INSERT INTO outbox SELECT FROM generate_series(1, 10)")
      let check = try place.command("check")
      #expect(check.output.contains("without time zone") && check.output.contains("America/New_York"))
      let refused = try place.command("recover", "--since", "1h")
      #expect(refused.status == 78 && refused.errors.contains("time_zone"), "\(refused)")
      place.configuration.outboxes += "\n  columns: {time_zone: America/New_York}"
      let counted = try place.command("recover", "--since", "1h", "--dry-run", "--json")
      #expect(counted.output.contains(/"(events|sent|read)": 10/), "\(counted)")
      let recovered = try place.command("recover", "--since", "1h")
      #expect(recovered.status == 0 && recovered.output.contains("10 "), "\(recovered)")
      #expect(!(try place.command("check").output.contains("without time zone")))
      // The same moment, in a message.
      let now = Date()
      let time = try #require(Self.header("ce_time", of: try place.messages()[0]))
      let formatter = ISO8601DateFormatter()
      formatter.formatOptions = [.withInternetDateTime, .withFractionalSeconds]
      #expect(abs(try #require(formatter.date(from: time)).timeIntervalSince(now)) < 300, "\(time)")
    }

    @Test func `a database and a table of any name have a source that is a URI, in stream and table alike`()
      throws
    {
      let topic = TestTools.uniqueName("names")
      var place = try place(
        setup: """
          CREATE DATABASE "My-Db 1";
          \\c "My-Db 1"
          CREATE SCHEMA "Sales%20"; \(Self.outbox("x int"))
          ALTER TABLE outbox SET SCHEMA "Sales%20"; ALTER TABLE "Sales%20".outbox RENAME TO "Ereignisse_ä";
          """, database: "My-Db 1",
        outboxes: "- table: '\"Sales%20\".\"Ereignisse_ä\"'\n  topic: \(topic)")
      let admin = place.server.adminConninfo("'My-Db 1'")
      try OutboxdProcess.initialize(place.configuration, admin: admin)
      let relay = try OutboxdProcess(place.configuration)
      try relay.waitUntilReady()
      try place.server.sql(
        "INSERT INTO \"Sales%20\".\"Ereignisse_ä\" DEFAULT VALUES", database: "'My-Db 1'")
      try eventually("the event is delivered", within: 20) {
        try relay.metric("outboxd_events_delivered_total{topic=\"\(topic)\"}") == 1
      }
      #expect(try relay.terminate() == 0)
      place.configuration.level = "warning"
      let message = try place.messages()[0]
      #expect(Self.header("ce_source", of: message) == "/My-Db%201/Sales%2520/Ereignisse_%C3%A4")
      let wrong = try place.command("replay", "--from", "1h", "--outbox", "Sales%20.Ereignisse_ä")
      #expect(
        wrong.status == 2 && wrong.errors.contains(#"did you mean "Sales%20"."Ereignisse_ä"?"#), "\(wrong)")
      let right = try place.command(
        "replay", "--from", "1h", "--source", "table", "--outbox", #""Sales%20"."Ereignisse_ä""#, "--dry-run")
      #expect(right.status != 2, "\(right)")
    }

    @Test func `values at their extremes, headers of every kind and missing ids arrive and stop nothing`()
      throws
    {
      let topic = TestTools.uniqueName("extremes")
      let place = try place(
        setup: """
          CREATE TABLE outbox (id char(12) PRIMARY KEY, aggregatetype text, aggregateid text, type char(8),
            payload text, d date, t timestamp, z timestamptz, f8 float8, f4 float4, n numeric, headers json);
          """,
        outboxes: """
          - table: public.outbox
            topic: \(topic)
            extensions: {adate: d, atime: t, azoned: z, afloat: f8, asingle: f4, anumeric: n}
          """)
      try OutboxdProcess.initialize(place.configuration, admin: place.server.adminConninfo())
      let relay = try OutboxdProcess(place.configuration)
      try relay.waitUntilReady()
      try place.server.sql(
        """
        INSERT INTO outbox VALUES
          ('1', 'a', 'k', 't', '', 'infinity', 'infinity', '-infinity', 'NaN', 'Infinity', 'NaN', 'null'),
          ('2', 'a', NULL, 't', '', '5874897-12-31', '294276-12-31 23:59:59.999999', '4714-11-24 00:00:00+00 BC', 1e15,
            1e6, 1e100, '[]'),
          ('3', 'a', NULL, 't', '', '4714-11-24 BC', '4714-11-24 00:00:00 BC', '294276-12-31 23:59:59+00', 100,
            3.4028235e38, -0.00001, '{"ce_id": "forged", "content-type": "x", "outboxd-replay": "wal", "": 1, "ok": 1}');
        """)
      try eventually("the events are delivered", within: 20) {
        try relay.metric("outboxd_events_delivered_total{topic=\"\(topic)\"}") == 3
      }
      #expect(try relay.metric("outboxd_headers_left_out_total") == 4)
      #expect(try relay.metric("outboxd_events_without_key_total") == 2)
      #expect(relay.log.filter { $0.text.contains("sent without a key") }.count == 1, "\(relay.tail)")
      #expect(try relay.terminate() == 0)
      let messages = try place.messages().sorted {
        Self.header("ce_id", of: $0) ?? "" < Self.header("ce_id", of: $1) ?? ""
      }
      let names = ["ce_id", "ce_type", "ce_adate", "ce_atime", "ce_azoned", "ce_afloat", "ce_asingle"]
      #expect(
        messages.map { message in names.map { Self.header($0, of: message) ?? "-" } } == [
          ["1", "t", "infinity", "infinity", "-infinity", "NaN", "Infinity"],
          [
            "2", "t", "5874897-12-31", "294276-12-31 23:59:59.999999", "4714-11-24 00:00:00+00 BC", "1e+15",
            "1e+06",
          ],
          [
            "3", "t", "4714-11-24 BC", "4714-11-24 00:00:00 BC", "294276-12-31 23:59:59+00", "100",
            "3.4028235e+38",
          ],
        ])
      #expect(messages.map { $0["key"] as? String } == ["k", nil, nil])
      #expect(Self.header("ce_ok", of: messages[2]) == "1")
      #expect(Self.header("outboxd-replay", of: messages[2]) == nil)
    }
  }
}
