// Owns: the statement that makes the publication, or completes it, and refuses one that is another's.
// Must not know: who runs it.
import RelayCore

/// The publication of one configuration, in SQL that finds out by itself what is there.
struct PublicationSQL {
  private let name: String
  private let literal: String
  private let slot: String
  private let mappings: [OutboxMapping]
  private let relay: String

  /// - Parameter relay: an SQL expression: the name of the relay's role.
  init(_ settings: PostgresSettings, _ mappings: [OutboxMapping], relay: String) {
    self.relay = relay
    name = SQLText.identifier(settings.publication)
    literal = SQLText.literal(settings.publication)
    slot = SQLText.literal(settings.slot)
    self.mappings = mappings
  }

  static let options = "publish = 'insert', publish_via_partition_root = true"

  var statement: SetupStatement {
    SetupStatement(
      comment: "What outboxd reads: the inserts of the outbox tables.", sql: sql, presence: presence,
      needs: "the owner of the publication and of the outbox tables, with CREATE on the database")
  }

  private static let remedy =
    "Set a name of its own for this relay under postgres.publication, or add those tables under outboxes."

  private var sql: String {
    let tables = mappings.map { SQLText.qualified($0.schema, $0.table) }.joined(separator: ", ")
    let additions = mappings.map { mapping in
      """
        IF NOT \(isMember(mapping)) THEN
          -- A transaction that has written to it would be published in part: it must end first.
          PERFORM pg_catalog.set_config('lock_timeout', '5s', true);
          LOCK TABLE \(SQLText.qualified(mapping.schema, mapping.table)) IN SHARE MODE;
          ALTER PUBLICATION \(name) ADD TABLE \(SQLText.qualified(mapping.schema, mapping.table));
        END IF;
      """
    }.joined(separator: "\n")
    return "DO "
      + SQLText.dollarQuoted(
        """

        DECLARE
          others text := \(others);
          owner text := \(foreignOwner);
          users text := NULL;
          fault record;
        BEGIN
          IF owner IS NOT NULL THEN
            RAISE EXCEPTION 'publication "%" belongs to role "%", who could take its tables out, and does not own them all',
              \(literal), owner USING HINT = pg_catalog.format('If it is this relay''s: ALTER PUBLICATION %I OWNER TO %I; '
                'otherwise set a name of its own for this relay under postgres.publication.', \(literal), \(relay));
          END IF;
          IF others IS NOT NULL THEN
            RAISE EXCEPTION 'publication "%" does not belong to this relay: it publishes %, which no outbox of this configuration names',
              \(literal), others USING HINT = \(SQLText.literal(Self.remedy));
          END IF;
          IF \(isComplete) THEN
            RETURN;
          END IF;
          IF NOT EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = \(literal)) THEN
            CREATE PUBLICATION \(name) FOR TABLE \(tables)
              WITH (\(Self.options));
            RETURN;
          END IF;
          -- A journal that is not to be trusted is not read, and no relay uses it.
          IF \(JournalSQL.isReadable) THEN
          \(JournalSQL.lockJudged(relay: relay))
            IF fault.reason IS NULL THEN
              SELECT pg_catalog.string_agg(c.slot, ', ') INTO users FROM outboxd.checkpoint c
              JOIN pg_catalog.pg_replication_slots s ON s.slot_name = c.slot
              JOIN pg_catalog.pg_publication p ON p.oid::text = pg_catalog.split_part(pg_catalog.to_jsonb(c)->>'publication', ' ', 1)
              WHERE p.pubname = \(literal) AND c.slot <> \(slot);
            END IF;
          END IF;
          IF users IS NOT NULL THEN
            RAISE EXCEPTION 'publication "%" would have to be altered, and slot % of another relay reads it too',
              \(literal), users USING HINT = \(SQLText.literal(Self.remedy));
          END IF;
          IF EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = \(literal) AND NOT (pubinsert AND pubviaroot)) THEN
            ALTER PUBLICATION \(name) SET (\(Self.options));
          END IF;
        \(additions)
        END

        """) + ";"
  }

  private var presence: String { "(\(isComplete) AND \(others) IS NULL AND \(foreignOwner) IS NULL)" }

  private var isComplete: String {
    let flags =
      "EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = \(literal) AND pubinsert AND pubviaroot)"
    return ([flags] + mappings.map(isMember)).joined(separator: " AND ")
  }

  private func isMember(_ mapping: OutboxMapping) -> String {
    "EXISTS (SELECT FROM pg_catalog.pg_publication_tables WHERE pubname = \(literal) AND schemaname = "
      + "\(SQLText.literal(mapping.schema)) AND tablename = \(SQLText.literal(mapping.table)))"
  }

  private var own: String {
    mappings.map { "(\(SQLText.literal($0.schema)), \(SQLText.literal($0.table)))" }.joined(separator: ", ")
  }

  /// An SQL expression: the owner of the publication, where he could not do by himself what he could do by it. NULL:
  /// there is none, or he is trusted.
  private var foreignOwner: String {
    let tables =
      "SELECT c.oid FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace "
      + "WHERE (n.nspname, c.relname) IN (\(own))"
    return "(SELECT pg_catalog.pg_get_userbyid(p.pubowner)::text FROM pg_catalog.pg_publication AS p WHERE "
      + "p.pubname = \(literal) AND NOT \(TrustSQL.isPublicationTrusted(relay: relay, tables: tables)))"
  }

  /// An SQL expression: the tables that the publication names, and the configuration does not. NULL: there are none.
  var others: String {
    """
    (
      SELECT CASE WHEN p.puballtables THEN 'all tables' ELSE (
        SELECT pg_catalog.string_agg(pg_catalog.format('%s.%s', n.nspname, c.relname), ', ' ORDER BY n.nspname, c.relname)
        FROM (SELECT prrelid AS relid FROM pg_catalog.pg_publication_rel WHERE prpubid = p.oid
          UNION SELECT t.oid FROM pg_catalog.pg_publication_namespace s
          JOIN pg_catalog.pg_class t ON t.relnamespace = s.pnnspid AND t.relkind IN ('r', 'p')
          WHERE s.pnpubid = p.oid) AS member
        JOIN pg_catalog.pg_class c ON c.oid = coalesce(pg_catalog.pg_partition_root(relid)::oid, relid)
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE (n.nspname, c.relname) NOT IN (\(own))) END
      FROM pg_catalog.pg_publication p WHERE p.pubname = \(literal))
    """
  }
}
