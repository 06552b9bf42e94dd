// Owns: attacks by the owner of outboxes: none of its code runs as outboxd or as the administrator.
import Foundation
import RelayTesting
import Testing

private struct Attack {
  var name: String
  /// By role m. `{o}` stands for the outbox.
  var sql: String
  var isPartitioned = false
  /// What the refusal of a read says. Nil: the table is read.
  var refusal: String?
  /// A role without REPLICATION reads the table nevertheless.
  var isServedToReader = false

  static let all = [
    Attack(name: "casts, a domain", sql: "SELECT"),
    Attack(
      name: "policy",
      sql: "CREATE POLICY e ON m.{o} USING (m.evil('policy')); ALTER TABLE m.{o} ENABLE ROW LEVEL SECURITY",
      refusal: "row security policies"),
    Attack(
      name: "index expression", sql: "CREATE INDEX ON m.{o} ((m.evil('expression')))",
      refusal: "m.evil(text)", isServedToReader: true),
    Attack(
      name: "index predicate", sql: "CREATE INDEX ON m.{o} (id) WHERE m.evil('predicate')",
      refusal: "m.evil(text)", isServedToReader: true),
    Attack(
      name: "operator of an index",
      sql: """
        CREATE FUNCTION m.same(uuid, uuid) RETURNS boolean LANGUAGE sql IMMUTABLE
          AS $$ SELECT m.evil('operator') $$;
        CREATE OPERATOR m.=== (FUNCTION = m.same, LEFTARG = uuid, RIGHTARG = uuid);
        CREATE INDEX ON m.{o} (id) WHERE '00000000-0000-0000-0000-000000000000'::uuid
          OPERATOR(m.===) '00000000-0000-0000-0000-000000000001'::uuid
        """,
      refusal: "m.same(uuid,uuid)", isServedToReader: true),
    Attack(
      name: "statistics",
      sql: "CREATE STATISTICS m.{o}_s ON (m.evil('statistics')), id FROM m.{o}; ANALYZE m.{o}",
      refusal: "m.evil(text)", isServedToReader: true),
    Attack(
      name: "index of a partition", sql: "CREATE INDEX ON m.{o}_1 ((m.evil('leaf')))", isPartitioned: true,
      refusal: "m.evil(text)", isServedToReader: true),
    Attack(
      name: "foreign table as a partition",
      sql: "CREATE FOREIGN TABLE m.far PARTITION OF m.{o} FOR VALUES IN ('invoice') SERVER far",
      isPartitioned: true, refusal: "m.far"),
    Attack(
      name: "constraint, trigger, rule, default",
      sql: """
        ALTER TABLE m.{o} ADD CONSTRAINT e CHECK (m.evil('check')),
          ALTER payload SET DEFAULT m.evil('default')::text::jsonb;
        CREATE RULE e AS ON INSERT TO m.{o} DO ALSO SELECT m.evil('rule');
        CREATE FUNCTION m.fire() RETURNS trigger LANGUAGE plpgsql
          AS $$ BEGIN PERFORM m.evil('trigger'); RETURN NEW; END $$;
        CREATE TRIGGER e BEFORE INSERT ON m.{o} FOR EACH ROW EXECUTE FUNCTION m.fire();
        """),
    Attack(
      name: "policy and constraint of a partition",
      sql: """
        CREATE POLICY e ON m.{o}_1 USING (m.evil('policy')); ALTER TABLE m.{o}_1 ENABLE ROW LEVEL SECURITY;
        ALTER TABLE m.{o}_1 ADD CONSTRAINT e CHECK (m.evil('check'))
        """, isPartitioned: true),
  ]
}

/// A database in which role m owns an outbox for each attack, and may make foreign tables, and nothing else.
private final class HostileDatabase {
  let server: PostgresServer
  var configuration: RelayConfiguration

  init(version: Int) throws {
    server = try PostgresServer(version: version)
    try server.sql("CREATE DATABASE shop; CREATE ROLE m LOGIN")
    try server.sql(
      """
      GRANT CREATE ON DATABASE shop TO m;
      CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER far FOREIGN DATA WRAPPER nothing;
      GRANT USAGE ON FOREIGN SERVER far TO m;
      """, database: "shop")
    configuration = RelayConfiguration(
      conninfo: server.conninfo("shop"), brokers: try KafkaCluster.shared().bootstrap)
    let tables = Attack.all.enumerated().map { index, attack in
      let columns = """
        (id uuid DEFAULT gen_random_uuid(), aggregatetype m.kind NOT NULL, aggregateid m.kind,
          type m.kind DEFAULT 'order', payload jsonb DEFAULT '{}', created_at m.moment DEFAULT now())
        """
      return attack.isPartitioned
        ? """
        CREATE TABLE m.o\(index) \(columns) PARTITION BY LIST (aggregatetype);
        CREATE TABLE m.o\(index)_1 PARTITION OF m.o\(index) FOR VALUES IN ('order');
        INSERT INTO m.o\(index) (aggregatetype, aggregateid) VALUES ('order', 'order');
        """
        : """
        CREATE TABLE m.o\(index) \(columns);
        INSERT INTO m.o\(index) (aggregatetype, aggregateid) VALUES ('order', 'order'), ('invoice', 'invoice');
        """
    }
    try asM(
      """
      CREATE SCHEMA m;
      CREATE FUNCTION m.evil(tag text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
        RAISE LOG 'EVIL % as %/%', tag, current_user, session_user;
        BEGIN PERFORM pg_create_logical_replication_slot('evil', 'pgoutput'); EXCEPTION WHEN OTHERS THEN NULL; END;
        RETURN true;
      END $$;
      CREATE TYPE m.kind AS ENUM ('order', 'invoice');
      CREATE FUNCTION m.label(m.kind) RETURNS text LANGUAGE sql AS $$ SELECT 'evil' WHERE m.evil('cast') $$;
      CREATE CAST (m.kind AS text) WITH FUNCTION m.label(m.kind) AS IMPLICIT;
      CREATE FUNCTION m.fits(anyelement) RETURNS boolean LANGUAGE sql AS $$ SELECT m.evil('domain') $$;
      CREATE DOMAIN m.moment AS timestamptz CHECK (m.fits(VALUE));
      \(tables.joined(separator: "\n"))
      """)
    // One joins the publication after the slot began: its earlier rows are looked at.
    configuration.outboxes = outboxes(without: Self.late)
    try initialize()
    configuration.outboxes = outboxes()
    try initialize()
  }

  static let late = 2

  /// The outboxes of the attacks but for those of `late`.
  private func outboxes(without late: Int? = nil) -> String {
    Attack.all.indices.filter { $0 != late }.map {
      "- table: m.o\($0)\n  topic: hostile.{aggregatetype}\n  source: /m"
    }.joined(separator: "\n")
  }

  func asM(_ sql: String) throws {
    try server.sql("SET SESSION AUTHORIZATION m;\n" + sql, database: "shop")
  }

  func initialize() throws {
    try OutboxdProcess.initialize(configuration, admin: server.adminConninfo("shop"))
  }

  /// Whom m's code has run as, but for m itself.
  var victims: Set<String> {
    let lines = server.log.split(separator: "\n").filter { $0.contains("EVIL ") && !$0.contains(" as m/m") }
    return Set(lines.compactMap { $0.split(separator: "/").last.map(String.init) })
  }

  func expectNoForeignSlot(_ location: SourceLocation = #_sourceLocation) throws {
    #expect(
      try server.sql("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'evil'") == "0",
      sourceLocation: location)
  }

  func check() throws -> String {
    try OutboxdProcess.command(["check", "--config", try configuration.write()]).output
  }

  func backfill(_ index: Int) throws -> ChildProcess.Result {
    try OutboxdProcess.command([
      "backfill", "--config", try configuration.write(), "--dry-run", "--outbox", "m.o\(index)",
    ])
  }
}

extension Integration {
  @Suite struct HostileTableTests {
    @Test(arguments: [PostgresServer.versions.first, PostgresServer.versions.last].compactMap(\.self))
    func `code in a table runs as no role that has REPLICATION`(version: Int) throws {
      let database = try HostileDatabase(version: version)
      for (index, attack) in Attack.all.enumerated() {
        try database.asM(attack.sql.replacingOccurrences(of: "{o}", with: "o\(index)"))
      }
      let checked = try database.check()
      // Labels are read as the stream sends them: no cast has made these topics.
      #expect(checked.contains("topic hostile.invoice") && !checked.contains("hostile.evil"), "\(checked)")
      #expect(
        checked.contains("Its rows were not examined: m.o\(HostileDatabase.late) was not read"), "\(checked)")
      for (index, attack) in Attack.all.enumerated() {
        let read = try database.backfill(index)
        #expect(database.victims.isEmpty, "\(attack.name): \(read.errors)")
        let line = checked.split(separator: "\n").first { $0.contains("security: m.o\(index) ") } ?? ""
        if let refusal = attack.refusal {
          #expect(read.status != 0 && read.errors.contains(refusal), "\(attack.name): \(read.errors)")
          #expect(line.hasPrefix("warning") && line.contains(refusal), "\(attack.name): \(line)")
        } else {
          #expect(read.status == 0, "\(attack.name): \(read.errors)")
          #expect(line.hasPrefix("ok"), "\(attack.name): \(line)")
        }
      }
      try database.expectNoForeignSlot()
      try expectNoSwap(database)
      try expectReader(database)
    }

    /// What takes the table's place while a read waits for its lock is not read.
    private func expectNoSwap(_ database: HostileDatabase) throws {
      let swaps = [
        (
          """
          ALTER TABLE m.o0 RENAME TO real; CREATE VIEW m.o0 AS SELECT * FROM m.real WHERE m.evil('view');
          GRANT SELECT ON m.o0 TO PUBLIC;
          """, "DROP VIEW m.o0; ALTER TABLE m.real RENAME TO o0"
        ),
        (
          """
          ALTER SCHEMA m RENAME TO former; CREATE SCHEMA m; GRANT USAGE ON SCHEMA m TO PUBLIC;
          CREATE VIEW m.o0 AS SELECT * FROM former.o0 WHERE former.evil('schema'); GRANT SELECT ON m.o0 TO PUBLIC;
          """, "DROP SCHEMA m CASCADE; ALTER SCHEMA former RENAME TO m"
        ),
      ]
      for (swap, undo) in swaps {
        let thief = try database.server.startSQL(
          """
          SET SESSION AUTHORIZATION m; BEGIN; LOCK TABLE m.o0; SELECT 'locked';
          DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM pg_locks WHERE NOT granted) LOOP PERFORM pg_sleep(0.01);
          END LOOP; END $$;
          \(swap) COMMIT;
          """, database: "shop")
        try eventually("the table is locked", within: 20) { thief.output.contains("locked") }
        let waiting = try database.backfill(0)
        #expect(try thief.wait(seconds: 20) == 0, "\(thief.errors)")
        let late = try database.backfill(0)
        try database.asM(undo)
        for read in [waiting, late] {
          #expect(read.status != 0 && read.errors.contains("m.o0"), "\(read.errors)")
        }
        #expect(database.victims.isEmpty)
      }
      try database.expectNoForeignSlot()
    }

    /// A second role reads what the first must not, and code of the tables gets no further than that.
    private func expectReader(_ database: HostileDatabase) throws {
      database.configuration.postgres = [
        "read_conninfo: \(database.server.conninfo("shop", user: "outboxd_read"))"
      ]
      try database.initialize()
      for (index, attack) in Attack.all.enumerated() where attack.isServedToReader {
        let read = try database.backfill(index)
        #expect(read.status == 0, "\(attack.name): \(read.errors)")
      }
      let checked = try database.check()
      #expect(
        checked.contains("role \"outboxd_read\" reads the tables, and has no right beyond its grants"),
        "\(checked)")
      #expect(database.victims == ["outboxd_read"])
      try database.expectNoForeignSlot()
    }
  }
}
