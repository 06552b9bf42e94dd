// Owns: the statements that take away what belongs to one relay, and nothing of another's.
// Must not know: who runs them.
public import RelayCore

public enum TeardownSQL {
  /// Slots, publication, the journal's rows, and the journal itself where no other relay has rows in it. Each
  /// statement does nothing as long as the slot is in use.
  public static func statements(
    settings: PostgresSettings, mappings: [OutboxMapping], role: String, reader: String? = nil
  ) -> [SetupStatement] {
    let slot = SQLText.literal(settings.slot)
    var list = [
      SetupStatement(
        comment: "Only when outboxd has stopped.",
        sql: block(
          """
            IF EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE slot_name = \(slot) AND active) THEN
              RAISE EXCEPTION 'slot % is in use: stop outboxd first', \(slot);
            END IF;
          """)),
      SetupStatement(
        comment: "The slot and the anchor, in this database only: they hold WAL.",
        sql: "SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots "
          + "WHERE slot_name IN (\(slot), \(SQLText.literal(ReplaySlots.anchor(of: settings.slot)))) "
          + "AND plugin = 'pgoutput' AND database = pg_catalog.current_database() AND NOT active "
          + "AND NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE slot_name = \(slot) AND active);"
      ),
      publication(settings, mappings, relay: SQLText.literal(role)),
    ]
    if settings.journal != .off { list.append(journal(settings, relay: SQLText.literal(role))) }
    list.append(rights(mappings, role, reader: reader ?? role))
    return list
  }

  private static func block(_ body: String, declare: String = "") -> String {
    "DO " + SQLText.dollarQuoted("\n\(declare)BEGIN\n\(body)\nEND\n") + ";"
  }

  /// An SQL expression: the slot is still there.
  private static func isThere(_ settings: PostgresSettings) -> String {
    "EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE slot_name = \(SQLText.literal(settings.slot)) "
      + "AND database = pg_catalog.current_database())"
  }

  private static func publication(
    _ settings: PostgresSettings, _ mappings: [OutboxMapping], relay: String
  ) -> SetupStatement {
    let name = SQLText.literal(settings.publication)
    return SetupStatement(
      comment: "The publication, where no other table is in it and no other relay reads it.",
      sql: block(
        """
          IF \(isThere(settings)) OR NOT EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = \(name)) THEN
            RETURN;
          END IF;
          IF others IS NULL AND \(JournalSQL.isReadable) THEN
          \(JournalSQL.lockJudged(relay: relay))
          \(JournalSQL.refusal)
            SELECT 'slot ' || pg_catalog.min(c.slot) INTO others FROM outboxd.checkpoint c
            JOIN pg_catalog.pg_publication p ON p.oid::text = pg_catalog.split_part(pg_catalog.to_jsonb(c)->>'publication', ' ', 1)
            WHERE p.pubname = \(name) AND c.slot <> \(SQLText.literal(settings.slot));
          END IF;
          IF others IS NULL THEN
            DROP PUBLICATION \(SQLText.identifier(settings.publication));
          ELSE
            RAISE NOTICE 'publication % is kept: it belongs to % too', \(name), others;
          END IF;
        """,
        declare: "DECLARE\n  fault record;\n  others text := "
          + "\(PublicationSQL(settings, mappings, relay: relay).others);\n"))
  }

  private static func journal(_ settings: PostgresSettings, relay: String) -> SetupStatement {
    let slot = SQLText.literal(settings.slot)
    let lockJudged = JournalSQL.lockJudged(
      relay: relay, tables: "outboxd.checkpoint, outboxd.checkpoint_history, outboxd.job",
      mode: "SHARE ROW EXCLUSIVE")
    return SetupStatement(
      comment: "The journal's rows of this slot; the journal, where no other relay has rows in it.",
      sql: block(
        """
          IF \(isThere(settings)) OR NOT \(JournalSQL.isReadable) THEN
            RETURN;
          END IF;
          -- From here on nothing can be attached to them.
        \(lockJudged)
        \(JournalSQL.refusal)
          DELETE FROM outboxd.checkpoint WHERE slot = \(slot);
          DELETE FROM outboxd.checkpoint_history WHERE slot = \(slot);
          DELETE FROM outboxd.job WHERE slot = \(slot);
          IF EXISTS (SELECT FROM outboxd.checkpoint) OR EXISTS (SELECT FROM outboxd.checkpoint_history)
            OR EXISTS (SELECT FROM outboxd.job)
          THEN
            RAISE NOTICE 'the schema outboxd is kept: other relays have rows in it';
            RETURN;
          END IF;
          DROP TABLE outboxd.checkpoint, outboxd.checkpoint_history, outboxd.job;
          IF NOT EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.to_regnamespace('outboxd')) THEN
            DROP SCHEMA outboxd;
          END IF;
        """, declare: "DECLARE\n  fault record;\n"))
  }

  /// Whether anybody else uses the role cannot be seen: that is left to a person.
  private static func rights(
    _ mappings: [OutboxMapping], _ role: String, reader: String
  ) -> SetupStatement {
    let grantee = SQLText.identifier(reader)
    var lines = mappings.map {
      "REVOKE SELECT ON \(SQLText.qualified($0.schema, $0.table)) FROM \(grantee); "
        + "REVOKE USAGE ON SCHEMA \(SQLText.identifier($0.schema)) FROM \(grantee);"
    }
    if reader != role { lines.append("DROP ROLE \(grantee);") }
    lines.append("DROP ROLE \(SQLText.identifier(role));")
    return SetupStatement(
      comment:
        "The role, where no other relay and nothing else uses it (Postgres refuses while anything depends on it):",
      sql: lines.map { SQLText.comment("  " + $0) }.joined(separator: "\n"))
  }
}
