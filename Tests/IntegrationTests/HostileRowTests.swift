// Owns: what a writer of an outbox, who may insert any row, can do to the relay, to topics and to events.
import Foundation
import Glibc
import RelayTesting
import Testing

extension Integration {
  @Suite struct HostileRowTests {
    private struct Place {
      let server: PostgresServer
      var configuration: RelayConfiguration
      let prefix: String

      func sql(_ text: String) throws { try server.sql(text, database: "shop") }

      func command(_ words: String...) throws -> ChildProcess.Result {
        try OutboxdProcess.command(words + ["--config", try configuration.write()])
      }
    }

    /// Two outboxes, in binary and in structured mode; the topic of the first one follows from a column alone.
    /// - Parameter rows: what is inserted before the slot is there.
    private func place(rows: String = "") throws -> Place {
      let kafka = try KafkaCluster.shared()
      let server = try PostgresServer()
      let prefix = TestTools.uniqueName("hostile")
      try server.sql("CREATE DATABASE shop")
      for table in ["plain", "envelope"] {
        try server.sql(
          """
          CREATE TABLE \(table) (id text DEFAULT gen_random_uuid()::text, aggregatetype text DEFAULT '\(prefix).a',
            aggregateid text DEFAULT 'a', type text DEFAULT 't', payload text DEFAULT '{}', headers json, kind text);
          """, database: "shop")
      }
      var configuration = RelayConfiguration(
        conninfo: server.conninfo("shop"), brokers: kafka.bootstrap,
        outboxes: """
          - table: public.plain
            topic: "{aggregatetype}"
            columns: {datacontenttype: kind}
          - table: public.envelope
            topic: \(prefix).e
            content_mode: structured
            columns: {datacontenttype: kind}
          """)
      configuration.kafka = ["allowed_topics: [\"\(prefix).*\"]"]
      if !rows.isEmpty { try server.sql(rows, database: "shop") }
      try OutboxdProcess.initialize(configuration, admin: server.adminConninfo("shop"))
      return Place(server: server, configuration: configuration, prefix: prefix)
    }

    @Test func `headers of 50,000 members keep the relay neither from its pages nor from its end`() throws {
      let place = try place()
      let relay = try OutboxdProcess(place.configuration)
      try relay.waitUntilReady()
      // 50,000 keys each: of different names, of one name, of names that are nearly the same.
      let members = [
        "string_agg(format('\"k%s\":\"v\"', i), ',')", "string_agg('\"k\":\"' || i || '\"', ',')",
        "string_agg(format('\"%s%s\":1', repeat('k', 9), 1000000 + i), ',')",
      ]
      for table in ["plain", "envelope"] {
        for member in members {
          try place.sql(
            "INSERT INTO \(table) (headers) SELECT ('{' || \(member) || '}')::json FROM generate_series(1, 50000) i"
          )
        }
        try place.sql(
          "INSERT INTO \(table) (headers) VALUES ((repeat('[', 2000) || repeat(']', 2000))::json), "
            + "(('{\"a\":' || repeat('[', 2000) || repeat(']', 2000) || '}')::json)")
      }
      #expect(try relay.get("/livez").status == 200)
      try Workload.settle(server: place.server, database: "shop", relay: relay, within: 60)
      #expect(try relay.get("/readyz").status == 200)
      // Counts by topic are published once a second.
      try eventually("ten events", within: 10) { try relay.metric("outboxd_events_delivered_total") == 10 }
      // 64 of each that has more are kept: of one name, one.
      #expect(try relay.metric("outboxd_headers_left_out_total") == Double(4 * (50_000 - 64) + 4))
      #expect(
        relay.log.contains { $0.message.contains("nested deeper than 512 levels, which is the limit") },
        "\(relay.tail)")
      // In the midst of such rows.
      try place.sql(
        "INSERT INTO envelope (headers) SELECT h FROM (SELECT ('{' || \(members[0]) || '}')::json AS h "
          + "FROM generate_series(1, 50000) i) AS one, generate_series(1, 5)")
      #expect(try relay.terminate(within: 30) == 0)
    }

    @Test func `a row reaches no topic but those that are allowed, and check says the same as the relay`()
      throws
    {
      var place = try place()
      var relay = try OutboxdProcess(place.configuration)
      try relay.waitUntilReady()
      try place.sql("INSERT INTO plain DEFAULT VALUES")
      try place.sql("INSERT INTO plain (aggregatetype) VALUES ('billing.secret')")
      #expect(try relay.process.wait(seconds: 60) == 23)
      let words = "billing.secret\" is not among kafka.allowed_topics"
      let halted = try #require(relay.log.last { $0.level == "error" })
      #expect(halted.fields.values.contains { $0.contains(words) }, "\(halted.text)")
      #expect(halted.fields["remedy"]?.contains("kafka.allowed_topics") == true, "\(halted.text)")
      let check = try place.command("check")
      #expect(check.status == 1 && check.output.contains(words), "\(check.output)")
      #expect(
        check.output.contains("public.plain: the topic {aggregatetype} is held to kafka.allowed_topics"))
      // --topic is held to it, too, and a topic of the configuration is a fault of it.
      let job = try place.command("backfill", "--accept-duplicates", "--topic", "billing.secret")
      #expect(job.status == 2 && job.errors.contains(words), "\(job.errors)")
      let outboxes = place.configuration.outboxes
      place.configuration.outboxes += "\n- {table: public.other, topic: billing.secret}"
      let fault = try place.command("config")
      #expect(fault.status == 78 && fault.errors.contains(words), "\(fault.errors)")
      place.configuration.outboxes = outboxes
      // Without the key any topic, but those that are Kafka's own.
      place.configuration.kafka = []
      let open = try place.command("check")
      #expect(open.output.contains("anyone who writes rows can choose any topic"), "\(open.output)")
      try place.sql("INSERT INTO plain (aggregatetype) VALUES ('__consumer_offsets')")
      relay = try OutboxdProcess(place.configuration)
      #expect(try relay.process.wait(seconds: 60) == 23, "\(relay.tail)")
      #expect(relay.logText.contains("is an internal topic of Kafka"), "\(relay.tail)")
    }

    @Test func `no row forges an attribute, or leaves its place in the envelope`() throws {
      let forged =
        #"{"ce_id":"x","CE_SOURCE":"x","\u0063e_type":"x","Content-Type":"x","content-typ\u0065":"x","outboxd-replay":"x"}"#
      let texts = [
        #"","data":{"a":1},"x":""#, #"\\"}"#, "\u{2028}\u{2029}</script>", "a\u{0301}\u{FEFF}",
        #"}}]],"id":"x""#,
      ]
      let rows = ["plain", "envelope"].flatMap { table in
        ["INSERT INTO \(table) (id, headers) VALUES ('forged', '\(forged)');"]
          + texts.map {
            "INSERT INTO \(table) (id, payload, kind) VALUES ('\($0)', '\($0)', 'text/plain');"
          }
      }
      let place = try place(rows: rows.joined(separator: "\n"))
      let result = try place.command("backfill", "--to-file", "-")
      #expect(result.status == 0, "\(result.errors)")
      let messages = try result.output.split(separator: "\n").map {
        try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
      }
      #expect(messages.count == 2 * (texts.count + 1))
      for message in messages {
        let headers = try #require(message["headers"] as? [[String: String]])
        let names = headers.compactMap { $0["name"]?.lowercased() }
        #expect(Set(names).count == names.count, "\(names)")
        #expect(!headers.contains { $0["value"] == "x" }, "\(headers)")
        let value = try #require(message["value"] as? String)
        guard message["topic"] as? String == "\(place.prefix).e" else {
          #expect(texts.contains(value) || value == "{}")
          continue
        }
        let envelope = try #require(
          try JSONSerialization.jsonObject(with: Data(value.utf8)) as? [String: Any])
        let id = try #require(envelope["id"] as? String)
        #expect(id == "forged" || (texts.contains(id) && envelope["data"] as? String == id), "\(value)")
        #expect(
          Set(envelope.keys).isSubset(of: [
            "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data",
          ]), "\(value)")
      }
      // A media type that would have the message read in the other mode.
      try place.sql("INSERT INTO plain (kind) VALUES ('Application/CloudEvents-batch+json')")
      let relay = try OutboxdProcess(place.configuration)
      #expect(try relay.process.wait(seconds: 60) == 23, "\(relay.tail)")
      #expect(relay.logText.contains("is not a media type"), "\(relay.tail)")
    }
  }
}
