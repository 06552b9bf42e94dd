// Owns: the scenarios that the goldens are captured from. Runs only where OUTBOXD_CAPTURE_GOLDENS is set;
// what it writes is to be read before it is committed.
import Foundation
import RelayCore
import RelayTesting
import Testing

@testable import PostgresSource

private let scenarios: [(name: String, publication: String, setup: String, work: String)] = [
  (
    "types", "FOR ALL TABLES WITH (publish = 'insert')",
    """
    CREATE EXTENSION citext;
    CREATE TYPE mood AS ENUM ('glad', 'sad');
    CREATE TYPE pair AS (a int, b text);
    CREATE DOMAIN email AS text CHECK (VALUE LIKE '%@%');
    CREATE DOMAIN positive AS numeric(10,2) CHECK (VALUE > 0);
    CREATE DOMAIN nested AS email;
    CREATE DOMAIN feeling AS mood;
    CREATE TABLE t (
      a bool, b int2, c int4, d int8, e float4, f float8, g numeric, h text, i varchar(9), j char(4), k name,
      l citext, m uuid, n bytea, o json, p jsonb, q xml, r date, s timestamp, t timestamptz,
      u email, v positive, w nested, x mood, y feeling, z pair, aa int[], ab text[], ac interval, ad inet,
      ae money, af time, ag pg_lsn, ah int4range, ai mood[], aj regclass, ak aclitem);
    """,
    """
    INSERT INTO t VALUES (true, -2, 3, -9223372036854775808, 1.5, 'NaN', 12345.678901, 'Grüße', 'var', 'ch',
      'name', 'CiText', '00112233-4455-6677-8899-aabbccddeeff', '\\x00ff', '{"a": 1.0}', '{"b":[null,1e3]}',
      '<a/>', '2026-11-21', '2026-11-21 10:00:00.5', '2026-11-21 10:00:00.123456+02', 'a@b', 1.50, 'c@d',
      'sad', 'glad', '(1,x)', '{1,NULL,3}', '{a,"b c"}', '1 day 2 hours', '10.0.0.1/8', '12.34', '10:11:12',
      '16/B374D848', '[1,5)', '{sad,glad}', 't', 'postgres=r/postgres');
    INSERT INTO t DEFAULT VALUES;
    INSERT INTO t (h, i, n, o, p, q, aa) VALUES ('', '', '', '""', '""', '', '{}');
    INSERT INTO t (r, s, t, g) VALUES ('infinity', '-infinity', 'infinity', 'NaN');
    INSERT INTO t (t, r) VALUES ('4713-01-01 00:00:00+00 BC', '5874897-12-31');
    """
  ),
  (
    "toast", "FOR TABLE t WITH (publish = 'insert, update, delete, truncate')",
    """
    CREATE TABLE t (id int PRIMARY KEY, payload text, note text);
    ALTER TABLE t ALTER payload SET STORAGE EXTERNAL;
    """,
    """
    INSERT INTO t SELECT 1, string_agg(md5(n::text), ''), 'long' FROM generate_series(1, 90) n;
    UPDATE t SET note = 'payload is not sent again';
    ALTER TABLE t REPLICA IDENTITY FULL;
    UPDATE t SET note = 'with the old row';
    DELETE FROM t;
    """
  ),
  (
    "ddl", "FOR TABLE t WITH (publish = 'insert')",
    """
    CREATE TABLE t (id int PRIMARY KEY, a text, b text);
    """,
    """
    INSERT INTO t VALUES (1, 'a', 'b');
    ALTER TABLE t ADD c jsonb DEFAULT '{}';
    INSERT INTO t VALUES (2, 'a', 'b', '{"c":1}');
    ALTER TABLE t DROP a;
    INSERT INTO t VALUES (3, 'b', '{"c":2}');
    ALTER TABLE t RENAME b TO "B b";
    INSERT INTO t VALUES (4, 'b', '{"c":3}');
    BEGIN;
    INSERT INTO t VALUES (5, 'before', '{}');
    ALTER TABLE t ALTER id TYPE bigint;
    ALTER TABLE t ADD d uuid;
    INSERT INTO t VALUES (6, 'after', '{}', '00112233-4455-6677-8899-aabbccddeeff');
    COMMIT;
    ALTER TABLE t RENAME TO u;
    INSERT INTO u VALUES (7, 'renamed');
    BEGIN;
    DROP TABLE u;
    CREATE TABLE t (id int, "Größe" int);
    ALTER PUBLICATION p ADD TABLE t;
    COMMIT;
    INSERT INTO t VALUES (8, 9);
    ALTER TABLE t ADD g int GENERATED ALWAYS AS (id * 2) STORED;
    INSERT INTO t VALUES (10, 11);
    """
  ),
  (
    "partitions", "FOR TABLE t WITH (publish = 'insert', publish_via_partition_root = true)",
    """
    CREATE TABLE t (id int, day date, note text) PARTITION BY RANGE (day);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
    """,
    """
    INSERT INTO t VALUES (1, '2026-01-05', 'first');
    CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
    INSERT INTO t VALUES (2, '2026-02-05', 'new partition'), (3, '2026-01-06', 'old one');
    CREATE TABLE t_3 (note text, gone int, day date, id int);
    ALTER TABLE t_3 DROP gone;
    ALTER TABLE t ATTACH PARTITION t_3 FOR VALUES FROM ('2026-03-01') TO ('2026-04-01');
    INSERT INTO t VALUES (4, '2026-03-05', 'other column order');
    ALTER TABLE t DETACH PARTITION t_1;
    INSERT INTO t_1 VALUES (5, '2026-01-07', 'detached');
    INSERT INTO t_2 VALUES (6, '2026-02-08', 'straight into the partition');
    """
  ),
  (
    "transactions", "FOR TABLE t WITH (publish = 'insert')",
    """
    CREATE TABLE t (id int, note text);
    """,
    """
    BEGIN;
    INSERT INTO t VALUES (1, 'kept');
    SAVEPOINT a;
    INSERT INTO t VALUES (2, 'rolled back');
    SELECT pg_logical_emit_message(true, 'x', 'rolled back');
    ROLLBACK TO a;
    SAVEPOINT b;
    INSERT INTO t VALUES (3, 'released');
    RELEASE b;
    COMMIT;
    BEGIN; INSERT INTO t VALUES (4, 'aborted'); ROLLBACK;
    BEGIN; INSERT INTO t VALUES (5, 'prepared'); PREPARE TRANSACTION 'one';
    BEGIN; INSERT INTO t VALUES (6, 'prepared, given up'); PREPARE TRANSACTION 'two';
    INSERT INTO t VALUES (7, 'between');
    COMMIT PREPARED 'one';
    ROLLBACK PREPARED 'two';
    BEGIN;
    SELECT pg_logical_emit_message(true, 'outboxd', '{"id":"1"}');
    SELECT pg_logical_emit_message(true, '', '');
    SELECT pg_logical_emit_message(false, 'beat', '\\x00ff'::bytea);
    INSERT INTO t VALUES (8, 'with messages');
    COMMIT;
    SELECT pg_replication_origin_create('elsewhere');
    SELECT pg_replication_origin_session_setup('elsewhere');
    BEGIN;
    SELECT pg_replication_origin_xact_setup('0/ABCDEF', '2026-01-01');
    INSERT INTO t VALUES (9, 'from elsewhere');
    COMMIT;
    SELECT pg_replication_origin_session_reset();
    """
  ),
  (
    "operations", "FOR TABLE t, u",
    """
    CREATE TABLE t (id int PRIMARY KEY, note text);
    CREATE TABLE u (id int PRIMARY KEY);
    """,
    """
    INSERT INTO t VALUES (1, 'one'), (2, 'two');
    UPDATE t SET note = 'same key' WHERE id = 1;
    UPDATE t SET id = 3 WHERE id = 2;
    DELETE FROM t WHERE id = 1;
    TRUNCATE t, u RESTART IDENTITY;
    """
  ),
]

@Suite(.enabled(if: ProcessInfo.processInfo.environment["OUTBOXD_CAPTURE_GOLDENS"] != nil), .serialized)
struct CaptureGoldens {
  @Test func capture() throws {
    let server = try PostgresServer(version: 15)
    for scenario in scenarios {
      try server.sql("CREATE DATABASE \(scenario.name)")
      try server.sql(scenario.setup, database: scenario.name)
      try server.sql("CREATE PUBLICATION p \(scenario.publication)", database: scenario.name)
      var settings = PostgresSettings()
      settings.conninfo = server.conninfo(scenario.name, user: "postgres")
      settings.slot = scenario.name
      settings.publication = "p"
      let connection = try ReplicationConnection(settings, stop: StopSignal())
      let start = try connection.createSlot(settings: settings, stop: StopSignal(), log: Log(level: .error))
        .lsn
      try server.sql(scenario.work, database: scenario.name)
      try server.sql("SELECT pg_logical_emit_message(true, 'end', '')", database: scenario.name)
      try connection.start(at: start, messages: true)
      let golden = Golden(name: scenario.name, messages: try messages(connection))
      try golden.text.write(
        to: Golden.folder.appendingPathComponent("\(scenario.name).hex"), atomically: true, encoding: .utf8)
    }
  }

  private func messages(_ connection: ReplicationConnection) throws -> [Golden.Message] {
    var decoder = PgOutputDecoder()
    var list: [Golden.Message] = []
    var isLast = false
    while true {
      guard let bytes = try connection.receive() else {
        let deadline = MonotonicTime.now().advanced(milliseconds: 10_000)
        _ = try SQLConnection.wait(connection.descriptor, 1, until: deadline, stop: nil)
        continue
      }
      guard case .walData(let payload) = try CopyMessage.decode(bytes) else { continue }
      let change = try decoder.decode(payload)
      list.append(Golden.Message(payload: Array(payload), expected: render(change, decoder.relation)))
      if case .message(let message) = change, message.prefix.elementsEqual("end".utf8) { isLast = true }
      if case .commit = change, isLast { return list }
    }
  }
}
