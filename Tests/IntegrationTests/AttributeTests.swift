// Owns: what columns of each type become in an event, by default and by mapping.
import Foundation
import RelayTesting
import Testing

extension Integration {
  @Suite struct AttributeTests {
    @Test(arguments: PostgresServer.versions)
    func `attributes come from columns of every type, in both modes`(version: Int) throws {
      let kafka = try KafkaCluster.shared()
      let server = try PostgresServer(version: version)
      let prefix = TestTools.uniqueName("typed")
      let script = try String(contentsOfFile: Workload.folder + "/types.sql", encoding: .utf8)
      try server.sql(script + "INSERT INTO truth.setting VALUES ('\(prefix)');")
      var configuration = RelayConfiguration(conninfo: server.conninfo(), brokers: kafka.bootstrap)
      configuration.outboxes = ["binary", "structured"].map { mode in
        """
        - table: public.typed\(mode == "binary" ? "" : "_structured")
          source: /typed/\(mode)
          topic: \(prefix).\(mode).{a_int2}
          key: "{a_int8}/{subject}"
          content_mode: \(mode)
          columns: {id: id, type: type, payload: payload, subject: subject, time: at, datacontenttype: media}
          extensions:
            abool: a_bool
            aint2: a_int2
            aint4: a_int4
            aint8: a_int8
            anumeric: a_numeric
            atext: a_text
            avarchar: a_varchar
            auuid: a_uuid
            atimestamptz: a_timestamptz
            atimestamp: a_timestamp
            ajson: a_json
            ajsonb: a_jsonb
            adomain: a_domain
            amood: a_mood
        """
      }.joined(separator: "\n")
      try OutboxdProcess.initialize(configuration, admin: server.adminConninfo())
      let relay = try OutboxdProcess(configuration)
      try relay.waitUntilReady()
      try server.sql("SET TIME ZONE 'Asia/Kolkata'; CALL truth.fill();")
      let verdict = try Judgement(server: server, kafka: kafka, prefix: prefix).afterSettling(relay)
      #expect(verdict.ok, "\(verdict)")
      #expect(verdict.committed == 16)
    }

    @Test func `a table with the default names needs no mapping, and each payload type has its media type`()
      throws
    {
      let kafka = try KafkaCluster.shared()
      let server = try PostgresServer()
      let prefix = TestTools.uniqueName("plain")
      var setup = "CREATE SCHEMA truth; CREATE TABLE truth.setting AS SELECT '\(prefix)'::text AS prefix;\n"
      var views: [String] = []
      let kinds = [
        ("json", "application/json", "'{\"a\":  1}'"), ("jsonb", "application/json", "'{\"a\": 1}'"),
        ("text", "text/plain; charset=utf-8", "'\"text\"'"),
        ("bytea", "application/octet-stream", "'\\x00ff'"), ("xml", "application/xml", "'<a>é</a>'"),
      ]
      for (type, media, _) in kinds {
        setup += """
          CREATE TABLE public.of_\(type) (id int PRIMARY KEY, aggregate_type text, aggregate_id text,
            event_type text, payload \(type));
          CREATE FUNCTION truth.bytes(content \(type)) RETURNS bytea LANGUAGE sql STABLE
            RETURN \(type == "bytea" ? "content" : "convert_to(content::text, 'UTF8')");

          """
        views.append(
          """
          SELECT '/postgres/public/of_\(type)' AS source, id::text AS id, prefix || '.' || aggregate_type AS topic,
            encode(convert_to(aggregate_id, 'UTF8'), 'hex') AS key, event_type AS type,
            nullif(aggregate_id, '') AS subject,
            (extract(epoch FROM pg_xact_commit_timestamp(o.xmin)) * 1000000)::bigint AS time,
            CASE WHEN payload IS NOT NULL THEN '\(media)' END AS datacontenttype, NULL::text AS dataschema,
            NULL::text AS extensions, 'binary' AS mode, NULL::text AS kind,
            encode(sha256(truth.bytes(payload)), 'hex') AS sha, id AS version
          FROM public.of_\(type) o, truth.setting
          """)
      }
      try server.sql(setup + "CREATE VIEW truth.event AS \(views.joined(separator: "\nUNION ALL "));")
      var configuration = RelayConfiguration(conninfo: server.conninfo(), brokers: kafka.bootstrap)
      configuration.outboxes = kinds.map {
        "- table: public.of_\($0.0)\n  topic: \"\(prefix).{aggregatetype}\""
      }.joined(separator: "\n")
      try OutboxdProcess.initialize(configuration, admin: server.adminConninfo())
      let relay = try OutboxdProcess(configuration)
      try relay.waitUntilReady()
      // An empty aggregate id is an empty key, and no subject; a NULL payload is a tombstone.
      for (type, _, value) in kinds {
        let table = "public.of_\(type)"
        try server.sql(
          """
          INSERT INTO \(table) VALUES (1, '\(type)', 'a', 'made', \(value)), (2, '\(type)', 'a', 'gone', NULL),
            (3, '\(type)', '', 'made', \(value));
          """)
      }
      let verdict = try Judgement(server: server, kafka: kafka, prefix: prefix).afterSettling(relay)
      #expect(verdict.ok, "\(verdict)")
      #expect(verdict.committed == 15)
    }
  }
}

/// The end of a test that has outboxes of its own.
struct Judgement {
  let server: PostgresServer
  let kafka: KafkaCluster
  let prefix: String

  func afterSettling(_ relay: OutboxdProcess) throws -> Verdict {
    try Workload.settle(server: server, database: "postgres", relay: relay, within: 60)
    #expect(try relay.terminate() == 0)
    return try Workload.judge(server: server, database: "postgres", brokers: kafka.bootstrap, prefix: prefix)
  }
}
