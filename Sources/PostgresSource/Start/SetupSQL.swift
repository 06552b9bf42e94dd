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
}

extension [SetupStatement] {
  /// For psql.
  public var script: String {
    "\n\(SetupSQL.preamble)\n" + map { "\n\(SQLText.comment($0.comment))\n\($0.sql)\n" }.joined()
  }
}

public enum SetupSQL {
  /// Roles, publication, journal, grants and slot, in this order.
  /// - Parameters:
  ///   - role: streams, and keeps the journal.
  ///   - reader: reads the tables. Nil: `role` does.
  public static func statements(
    settings: PostgresSettings, mappings: [OutboxMapping], role: String, reader: String? = nil
  ) -> [SetupStatement] {
    let name = SQLText.literal(role)
    var list = [
      slotOwner(settings),
      roleStatement(
        role, "LOGIN REPLICATION", "outboxd connects as",
        needs: "a superuser (from PostgreSQL 16 on also a role with CREATEROLE and REPLICATION)"),
    ]
    if let reader, reader != role {
      list.append(
        roleStatement(
          reader, "LOGIN", "only reads the tables", needs: "a role with CREATEROLE"))
    }
    list.append(PublicationSQL(settings, mappings, relay: name).statement)
    if settings.journal != .off { list.append(JournalSQL.statement(relay: name)) }
    list += grants(settings, mappings, role, reader: reader ?? role)
    if settings.journal != .off { list.append(slotGuard(settings, relay: name)) }
    list.append(slotStatement(settings, relay: name))
    return list
  }

  /// For psql: no statement goes on from one that was refused; no object of another schema takes the place of the
  /// system's; neither a policy nor a view is evaluated; and a statement sees what was done before its locks were had.
  static let preamble = """
    \\set ON_ERROR_STOP on
    SET search_path = pg_catalog, pg_temp;
    SET row_security = off;
    SET default_transaction_isolation = 'read committed';
    DO $outboxd$ BEGIN PERFORM pg_catalog.set_config(name, 'view, foreign-table', false) FROM pg_catalog.pg_settings WHERE name = 'restrict_nonsystem_relation_kind'; END $outboxd$;
    """

  private static func roleStatement(
    _ role: String, _ attributes: String, _ purpose: String, needs: String
  ) -> SetupStatement {
    let presence = "EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = \(SQLText.literal(role)))"
    return SetupStatement(
      comment: "The role that \(purpose); give it a password with \\password.",
      sql: conditional("NOT \(presence)", "CREATE ROLE \(SQLText.identifier(role)) \(attributes);"),
      presence: presence, needs: needs)
  }

  private static func grants(
    _ settings: PostgresSettings, _ mappings: [OutboxMapping], _ role: String, reader: String
  ) -> [SetupStatement] {
    func has(_ role: String, _ kind: String, _ object: String, _ rights: String...) -> String {
      rights.map {
        "has_\(kind)_privilege(\(SQLText.literal(role)), \(SQLText.literal(object)), '\($0)')"
      }.joined(separator: " AND ")
    }
    let grantee = SQLText.identifier(role)
    var list: [SetupStatement] = []
    for mapping in mappings {
      list.append(
        SetupStatement(
          comment:
            "Streaming needs no grant; check, replay, backfill and recover read \(mapping.qualifiedName).",
          sql:
            "GRANT USAGE ON SCHEMA \(SQLText.identifier(mapping.schema)) TO \(SQLText.identifier(reader)); "
            + "GRANT SELECT ON \(SQLText.qualified(mapping.schema, mapping.table)) TO "
            + "\(SQLText.identifier(reader));",
          presence: has(reader, "schema", mapping.schema, "USAGE") + " AND "
            + has(reader, "table", SQLText.qualified(mapping.schema, mapping.table), "SELECT"),
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
          presence: has(role, "schema", "outboxd", "USAGE") + " AND "
            + has(role, "table", "outboxd.checkpoint", "SELECT", "INSERT", "UPDATE") + " AND "
            + has(role, "table", "outboxd.checkpoint_history", "SELECT", "INSERT", "DELETE") + " AND "
            + has(role, "table", "outboxd.job", "SELECT", "INSERT", "UPDATE"),
          needs: "the owner of the schema outboxd and its tables"))
    }
    return list
  }

  /// An SQL expression: there is a slot of that name.
  private static func isThere(_ slot: String) -> String {
    "EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE slot_name = \(slot))"
  }

  /// Slots are the cluster's, and their names with them.
  private static func slotOwner(_ settings: PostgresSettings) -> SetupStatement {
    let name = SQLText.literal(settings.slot)
    return SetupStatement(
      comment: "A slot of that name must be outboxd's own.",
      sql: "DO "
        + SQLText.dollarQuoted(
          """

          DECLARE
            fault text := (
              SELECT CASE
                WHEN slot_type <> 'logical' THEN pg_catalog.format('it is a %s slot', slot_type)
                WHEN plugin <> 'pgoutput' THEN pg_catalog.format('its plugin is %s', plugin)
                WHEN database <> pg_catalog.current_database() THEN pg_catalog.format('it belongs to database %s', database)
                WHEN temporary THEN 'it is temporary'
                WHEN two_phase THEN 'it is a slot with two_phase'
                WHEN confirmed_flush_lsn IS NULL THEN pg_catalog.format('process %s is still creating it', active_pid)
              END FROM pg_catalog.pg_replication_slots WHERE slot_name = \(name));
          BEGIN
            IF fault IS NOT NULL THEN
              RAISE EXCEPTION 'slot "%" is unsuitable: %', \(name), fault USING HINT = 'Set another name under postgres.slot.';
            END IF;
          END

          """) + ";", needs: "a role that may connect")
  }

  /// PL/pgSQL that refuses a slot in the place of one that was there before: what was committed meanwhile would be
  /// skipped in silence. To be run where the journal is trusted.
  private static func refuseLost(_ settings: PostgresSettings) -> String {
    let name = SQLText.literal(settings.slot)
    let message =
      "slot \(settings.slot) does not exist, and outboxd.checkpoint records that it did: read what "
      + "outboxd run reports before a new one is created"
    return """
      IF EXISTS (SELECT FROM outboxd.checkpoint WHERE slot = \(name)) AND NOT \(isThere(name)) THEN
        RAISE EXCEPTION USING MESSAGE = \(SQLText.literal(message));
      END IF;
      """
  }

  private static func slotGuard(_ settings: PostgresSettings, relay: String) -> SetupStatement {
    SetupStatement(
      comment: "No new slot in place of one that was lost.",
      sql: "DO "
        + SQLText.dollarQuoted(
          """

          DECLARE
            fault record;
          BEGIN
          \(JournalSQL.lockJudged(relay: relay))
          \(JournalSQL.refusal)
          \(refuseLost(settings))
          END

          """) + ";")
  }

  /// With the journal, the slot's start is entered together with the slot: so a slot that nothing was published from
  /// is told from one that is only unknown. Nobody can attach anything to a table that is locked so, and the slot is
  /// there before the transaction writes.
  private static func slotStatement(_ settings: PostgresSettings, relay: String) -> SetupStatement {
    let name = SQLText.literal(settings.slot)
    let creation =
      "pg_catalog.pg_create_logical_replication_slot(\(name)::pg_catalog.name, 'pgoutput'::pg_catalog.name)"
    return SetupStatement(
      comment: "The slot: events committed from here on are published. It holds WAL until they are.",
      sql: settings.journal == .off
        ? "SELECT \(creation) WHERE NOT \(isThere(name));"
        : "DO " + SQLText.dollarQuoted(journaled(creation, settings, relay: relay)) + ";",
      presence: isThere(name),
      needs: settings.journal == .off
        ? "a role with REPLICATION" : "a role with REPLICATION and INSERT on outboxd.checkpoint",
      isTransactional: false)
  }

  private static func journaled(_ creation: String, _ settings: PostgresSettings, relay: String) -> String {
    """

    DECLARE
      fault record;
      made record;
    BEGIN
      IF \(isThere(SQLText.literal(settings.slot))) THEN
        RETURN;
      END IF;
      FOR turn IN 1..3 LOOP
      \(JournalSQL.require(relay: relay, isRequired: true))
        IF turn = 1 THEN
          \(JournalSQL.lock())
        ELSIF turn = 2 THEN
        \(refuseLost(settings))
          SELECT * INTO made FROM \(creation);
          \(JournalSQL.lock(mode: "SHARE ROW EXCLUSIVE"))
        END IF;
      END LOOP;
      INSERT INTO outboxd.checkpoint (slot, lsn, system_identifier, timeline, start_lsn)
      VALUES (made.slot_name, made.lsn, (SELECT system_identifier FROM pg_catalog.pg_control_system()),
        ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(made.lsn), 1, 8))::bit(32)::bigint, made.lsn);
    EXCEPTION WHEN OTHERS THEN
      IF made IS NOT NULL THEN
        PERFORM pg_catalog.pg_drop_replication_slot(made.slot_name);
      END IF;
      RAISE;
    END

    """
  }

  private static func conditional(_ condition: String, _ statement: String) -> String {
    "DO " + SQLText.dollarQuoted("\nBEGIN\n  IF \(condition) THEN\n    \(statement)\n  END IF;\nEND\n") + ";"
  }
}
