// Owns: the statements that prepare a database for a configuration, as `sql/` has them for the default names.
// Must not know: who runs them, and what is there already (each statement finds out by itself).
public import RelayCore

/// One step of the preparation. Running it again changes nothing.
public struct SetupStatement: Equatable, Sendable {
  /// What it is for, in one line.
  public var comment: String
  /// Ends with a semicolon.
  public var sql: String
  /// An SQL expression: whether what the step makes is there already. Nil for a step that only checks.
  public var presence: String?
  /// Who may run it, to follow "needs".
  public var needs = "a superuser"
  /// False for what Postgres does not do in a transaction that has written.
  public var isTransactional = true
  /// What to do where the step refuses to touch something.
  public var remedy: String?
}

public enum SetupSQL {
  /// Role, publication, journal, grants and slot, in this order.
  public static func statements(
    settings: PostgresSettings, mappings: [OutboxMapping], role: String
  ) -> [SetupStatement] {
    var list = [slotOwner(settings), roleStatement(role), PublicationSQL(settings, mappings).statement]
    if settings.journal != .off { list += [JournalSQL.guardStatement] + journalStatements }
    list += grants(settings, mappings, role)
    if settings.journal != .off { list.append(slotGuard(settings)) }
    var slot = slotStatement(settings)
    slot.presence =
      "EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE slot_name = \(SQLText.literal(settings.slot)))"
    slot.needs =
      settings.journal == .off
      ? "a role with REPLICATION" : "a role with REPLICATION and INSERT on outboxd.checkpoint"
    slot.isTransactional = false
    list.append(slot)
    return list
  }

  private static func roleStatement(_ role: String) -> SetupStatement {
    let presence = "EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = \(SQLText.literal(role)))"
    return SetupStatement(
      comment: "The role that outboxd connects as; give it a password with \\password.",
      sql: conditional(
        "NOT \(presence)", "CREATE ROLE \(SQLText.identifier(role)) LOGIN REPLICATION;"),
      presence: presence,
      needs: "a superuser (from PostgreSQL 16 on also a role with CREATEROLE and REPLICATION)")
  }

  private static let journalStatements = [
    SetupStatement(
      comment: "Where outboxd keeps its checkpoints.", sql: "CREATE SCHEMA IF NOT EXISTS outboxd;",
      presence: "to_regnamespace('outboxd') IS NOT NULL", needs: "a role with CREATE on the database"),
    SetupStatement(
      comment: "One row for each slot, written about once a second.",
      sql: """
        CREATE TABLE IF NOT EXISTS outboxd.checkpoint (
          slot text NOT NULL PRIMARY KEY,
          lsn pg_lsn NOT NULL,
          snapshot text,
          snapshot_lsn pg_lsn,
          system_identifier text NOT NULL,
          timeline bigint NOT NULL,
          publication text,
          start_lsn pg_lsn,
          start_snapshot text,
          updated_at timestamptz NOT NULL DEFAULT now()
        ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
        """,
      presence: "to_regclass('outboxd.checkpoint') IS NOT NULL", needs: "the owner of the schema outboxd"),
    SetupStatement(
      comment: "Earlier checkpoints, one every ten seconds while events pass, for seven days.",
      sql: """
        CREATE TABLE IF NOT EXISTS outboxd.checkpoint_history (
          slot text NOT NULL,
          lsn pg_lsn NOT NULL,
          snapshot text,
          snapshot_lsn pg_lsn,
          system_identifier text NOT NULL,
          timeline bigint NOT NULL,
          recorded_at timestamptz NOT NULL DEFAULT now(),
          PRIMARY KEY (slot, recorded_at)
        );
        """,
      presence: "to_regclass('outboxd.checkpoint_history') IS NOT NULL",
      needs: "the owner of the schema outboxd"),
    SetupStatement(
      comment: "The columns that a journal of an earlier version lacks.",
      sql: "ALTER TABLE outboxd.checkpoint ADD COLUMN IF NOT EXISTS snapshot_lsn pg_lsn, "
        + "ADD COLUMN IF NOT EXISTS publication text, ADD COLUMN IF NOT EXISTS start_lsn pg_lsn, "
        + "ADD COLUMN IF NOT EXISTS start_snapshot text; "
        + "ALTER TABLE outboxd.checkpoint_history ADD COLUMN IF NOT EXISTS snapshot_lsn pg_lsn;",
      presence: "(SELECT count(*) = 5 FROM pg_catalog.pg_attribute WHERE NOT attisdropped AND "
        + "attrelid IN (to_regclass('outboxd.checkpoint'), to_regclass('outboxd.checkpoint_history')) AND "
        + "attname IN ('snapshot_lsn', 'publication', 'start_lsn', 'start_snapshot'))",
      needs: "the owner of the schema outboxd and its tables"),
    SetupStatement(
      comment: "Replays and backfills, and how far they got, so that an interrupted one can go on.",
      sql: """
        CREATE TABLE IF NOT EXISTS outboxd.job (
          id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
          slot text NOT NULL,
          command text NOT NULL,
          request jsonb NOT NULL,
          position text,
          events bigint NOT NULL DEFAULT 0,
          started_at timestamptz NOT NULL DEFAULT now(),
          updated_at timestamptz NOT NULL DEFAULT now(),
          finished_at timestamptz
        );
        """,
      presence: "to_regclass('outboxd.job') IS NOT NULL", needs: "the owner of the schema outboxd"),
  ]

  private static func grants(
    _ settings: PostgresSettings, _ mappings: [OutboxMapping], _ role: String
  ) -> [SetupStatement] {
    let grantee = SQLText.identifier(role)
    let name = SQLText.literal(role)
    func has(_ kind: String, _ object: String, _ rights: String...) -> String {
      rights.map { "has_\(kind)_privilege(\(name), \(SQLText.literal(object)), '\($0)')" }
        .joined(separator: " AND ")
    }
    var list: [SetupStatement] = []
    for mapping in mappings {
      list.append(
        SetupStatement(
          comment:
            "Streaming needs no grant; check, replay, backfill and recover read \(mapping.qualifiedName).",
          sql: "GRANT USAGE ON SCHEMA \(SQLText.identifier(mapping.schema)) TO \(grantee); GRANT SELECT ON "
            + "\(SQLText.qualified(mapping.schema, mapping.table)) TO \(grantee);",
          presence: has("schema", mapping.schema, "USAGE") + " AND "
            + has("table", SQLText.qualified(mapping.schema, mapping.table), "SELECT"),
          needs: "the owner of the table and its schema"))
    }
    if settings.journal != .off {
      list.append(
        SetupStatement(
          comment: "What the journal needs.",
          sql: "GRANT USAGE ON SCHEMA outboxd TO \(grantee); "
            + "GRANT SELECT, INSERT, UPDATE ON outboxd.checkpoint TO \(grantee); "
            + "GRANT SELECT, INSERT, DELETE ON outboxd.checkpoint_history TO \(grantee); "
            + "GRANT SELECT, INSERT, UPDATE ON outboxd.job TO \(grantee);",
          presence: has("schema", "outboxd", "USAGE") + " AND "
            + has("table", "outboxd.checkpoint", "SELECT", "INSERT", "UPDATE") + " AND "
            + has("table", "outboxd.checkpoint_history", "SELECT", "INSERT", "DELETE") + " AND "
            + has("table", "outboxd.job", "SELECT", "INSERT", "UPDATE"),
          needs: "the owner of the schema outboxd and its tables"))
    }
    return list
  }

  /// Slots are the cluster's, and their names with them.
  private static func slotOwner(_ settings: PostgresSettings) -> SetupStatement {
    let name = SQLText.literal(settings.slot)
    let remedy = "Set another name under postgres.slot."
    return SetupStatement(
      comment: "A slot of that name must be outboxd's own.",
      sql: "DO "
        + SQLText.dollarQuoted(
          """

          DECLARE
            fault text := (
              SELECT CASE
                WHEN slot_type <> 'logical' THEN format('it is a %s slot', slot_type)
                WHEN plugin <> 'pgoutput' THEN format('its plugin is %s', plugin)
                WHEN database <> current_database() THEN format('it belongs to database %s', database)
                WHEN temporary THEN 'it is temporary'
                WHEN two_phase THEN 'it is a slot with two_phase'
                WHEN confirmed_flush_lsn IS NULL THEN format('process %s is still creating it', active_pid)
              END FROM pg_catalog.pg_replication_slots WHERE slot_name = \(name));
          BEGIN
            IF fault IS NOT NULL THEN
              RAISE EXCEPTION 'slot "%" is unsuitable: %', \(name), fault USING HINT = \(SQLText.literal(remedy));
            END IF;
          END

          """) + ";", needs: "a role that may connect", remedy: remedy)
  }

  /// A slot that was there before is not made again in silence: what was committed meanwhile would be skipped.
  private static func slotGuard(_ settings: PostgresSettings) -> SetupStatement {
    let name = SQLText.literal(settings.slot)
    let message =
      "slot \(settings.slot) does not exist, and outboxd.checkpoint says that there was one: see what "
      + "outboxd run says about it before a new one is created"
    return SetupStatement(
      comment: "No new slot in the place of one that was lost.",
      sql: conditional(
        "EXISTS (SELECT FROM outboxd.checkpoint WHERE slot = \(name)) AND NOT EXISTS "
          + "(SELECT FROM pg_catalog.pg_replication_slots WHERE slot_name = \(name))",
        "RAISE EXCEPTION USING MESSAGE = \(SQLText.literal(message));"))
  }

  /// With the journal, the slot's start is entered together with the slot: so a slot that nothing was published from
  /// is told from one that is only unknown. One statement, since no other could know which slot is new.
  private static func slotStatement(_ settings: PostgresSettings) -> SetupStatement {
    let name = SQLText.literal(settings.slot)
    let call = "SELECT pg_create_logical_replication_slot(\(name), 'pgoutput')"
    let condition = "WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = \(name))"
    return SetupStatement(
      comment: "The slot: events committed from here on are published. It holds WAL until they are.",
      sql: settings.journal == .off
        ? "\(call) \(condition);"
        : """
        WITH created AS MATERIALIZED (
          \(call) AS slot
          \(condition))
        INSERT INTO outboxd.checkpoint (slot, lsn, system_identifier, timeline, start_lsn)
        SELECT (slot).slot_name, (slot).lsn, (SELECT system_identifier FROM pg_control_system()),
          ('x' || substr(pg_walfile_name((slot).lsn), 1, 8))::bit(32)::bigint, (slot).lsn
        FROM created ON CONFLICT (slot) DO NOTHING;
        """)
  }

  private static func conditional(_ condition: String, _ statement: String) -> String {
    "DO " + SQLText.dollarQuoted("\nBEGIN\n  IF \(condition) THEN\n    \(statement)\n  END IF;\nEND\n") + ";"
  }
}
