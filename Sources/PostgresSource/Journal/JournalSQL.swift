// Owns: whether the schema outboxd is a journal that can be trusted, and the statement that makes it, in SQL.
// Must not know: what is written to it.

enum JournalSQL {
  /// An SQL expression, for a relay that judges by itself: the name of its role.
  static let ownRole = "current_user"

  /// The columns that every version of the journal has had.
  private static let columns = """
    (VALUES ('checkpoint', '{slot,lsn,snapshot,system_identifier,timeline,updated_at}'::text[]),
          ('checkpoint_history', '{slot,lsn,snapshot,system_identifier,timeline,recorded_at}'),
          ('job', '{id,slot,command,request,position,events,started_at,updated_at,finished_at}')) AS w(relname, names)
    """

  /// An SQL expression: the schema has a relation of that name, of whatever kind.
  static func has(_ relation: String) -> String {
    "EXISTS (SELECT FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace "
      + "WHERE n.nspname = 'outboxd' AND c.relname = '\(relation)')"
  }

  /// An SQL expression: the table of checkpoints is there, and may be read. Whether it is outboxd's says `judgement`.
  static let isReadable = """
    EXISTS (SELECT FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = 'outboxd' AND c.relname = 'checkpoint' AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
          AND pg_catalog.has_table_privilege(c.oid, 'SELECT'))
    """

  /// The tables of the journal, the roles that are trusted, and the schema, for the queries below.
  private static func parts(relay: String) -> String {
    """
    WITH trusted AS (
        SELECT r.oid FROM pg_catalog.pg_roles AS r WHERE \(TrustSQL.isTrusted("r", relay: relay))),
      journal AS (
        SELECT n.oid, n.nspowner, n.nspacl FROM pg_catalog.pg_namespace AS n WHERE n.nspname = 'outboxd'),
      relation AS (
        SELECT c.* FROM pg_catalog.pg_class AS c JOIN journal AS n ON n.oid = c.relnamespace
        WHERE c.relname IN ('checkpoint', 'checkpoint_history', 'job'))
    """
  }

  /// The reason and its remedy.
  private static let verdict = """
    SELECT f.reason, CASE
        WHEN f.rank IN (1, 4) THEN 'ALTER SCHEMA outboxd RENAME TO ...; and run outboxd init again, or set postgres.journal: off. '
          'If it was the journal: see that its tables are ordinary ones with nothing attached to them, and copy the rows with INSERT ... SELECT.'
        WHEN f.rank = 13 THEN 'Run what outboxd init prints (schema, tables and grants), or set postgres.journal: off.'
        ELSE coalesce('If it is the journal: ' || f.remedy, '') || 'If it is not the journal: ALTER SCHEMA outboxd RENAME TO ...; '
          'and run outboxd init again, or set postgres.journal: off.' END AS remedy
    """

  /// What a relation of the journal must not have or be, since its owner, or whoever attached it, could run code by it.
  private static let relationFaults = """
    SELECT v.rank, pg_catalog.format('outboxd.%s, which belongs to role "%s", %s', c.relname,
          pg_catalog.pg_get_userbyid(c.relowner), v.fault), v.remedy
        FROM relation AS c CROSS JOIN LATERAL (VALUES
          (3, 'is not an ordinary table', NULL, c.relkind <> 'r' OR c.relpersistence <> 'p' OR c.relispartition
            OR EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE c.oid IN (i.inhrelid, i.inhparent))),
          (4, 'could be made to call functions by that role', NULL, c.relowner NOT IN (TABLE trusted)),
          (5, 'has a trigger', 'Drop the trigger. ', EXISTS (SELECT FROM pg_catalog.pg_trigger AS t
            WHERE t.tgrelid = c.oid AND NOT t.tgisinternal)),
          (6, 'has a rule', 'Drop the rule. ', EXISTS (SELECT FROM pg_catalog.pg_rewrite AS r WHERE r.ev_class = c.oid)),
          (7, 'has row security', 'Drop its policies, and disable row security. ', c.relrowsecurity
            OR EXISTS (SELECT FROM pg_catalog.pg_policy AS p WHERE p.polrelid = c.oid)),
          (8, 'lets others create triggers on it', pg_catalog.format(
            'REVOKE TRIGGER, REFERENCES ON outboxd.%s FROM everybody who has it. ', c.relname),
            EXISTS (SELECT FROM pg_catalog.aclexplode(c.relacl) AS a
              WHERE a.privilege_type IN ('TRIGGER', 'REFERENCES') AND a.grantee NOT IN (TABLE trusted))
            OR EXISTS (SELECT FROM pg_catalog.pg_attribute AS t CROSS JOIN LATERAL pg_catalog.aclexplode(t.attacl) AS a
              WHERE t.attrelid = c.oid AND a.privilege_type = 'REFERENCES' AND a.grantee NOT IN (TABLE trusted))),
          (9, 'has a foreign key, or another table has one to it', 'Drop the foreign key. ', EXISTS (
            SELECT FROM pg_catalog.pg_constraint AS k WHERE k.contype = 'f' AND c.oid IN (k.conrelid, k.confrelid))),
          (10, 'has extended statistics', 'Drop the statistics. ', EXISTS (
            SELECT FROM pg_catalog.pg_statistic_ext AS s WHERE s.stxrelid = c.oid)),
          (11, 'uses a function, operator or type that is not of Postgres itself', NULL, EXISTS (
            SELECT FROM (SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::oid AS classid, c.oid AS objid
              UNION ALL SELECT d.classid, d.objid FROM pg_catalog.pg_depend AS d
              WHERE d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = c.oid
                AND d.classid IN ('pg_catalog.pg_class'::pg_catalog.regclass, 'pg_catalog.pg_attrdef'::pg_catalog.regclass,
                  'pg_catalog.pg_constraint'::pg_catalog.regclass)) AS part
            JOIN pg_catalog.pg_depend AS d USING (classid, objid)
            WHERE d.refclassid IN ('pg_catalog.pg_proc'::pg_catalog.regclass,
              'pg_catalog.pg_operator'::pg_catalog.regclass, 'pg_catalog.pg_type'::pg_catalog.regclass)))
        ) AS v(rank, fault, remedy, holds) WHERE v.holds
    """

  /// A query: why the schema outboxd is no journal to be trusted, `reason`, and the `remedy`, in one row at most. It
  /// reads the catalog alone: nothing of the schema is evaluated. No row: the schema is not there, or is as it must be;
  /// then nobody but those who are trusted can change that.
  ///
  /// What a role other than the owner has attached stays when the owner changes: so what a table calls is looked at, too.
  /// - Parameters:
  ///   - relay: an SQL expression: the name of the relay's role.
  ///   - isRequired: there must be a table of checkpoints. A schema that is not there can be anybody's in the next moment:
  ///     whoever goes on to a statement that names it needs that.
  static func judgement(relay: String, isRequired: Bool = false) -> String {
    let absence =
      isRequired
      ? """

        UNION ALL
        SELECT 13, 'there is no table outboxd.checkpoint', NULL WHERE NOT EXISTS (SELECT FROM relation WHERE relname = 'checkpoint')
      """ : ""
    return """
      \(parts(relay: relay))
        \(verdict)
        FROM (
          SELECT 1 AS rank, pg_catalog.format('the schema outboxd belongs to role "%s", who could replace the journal',
              pg_catalog.pg_get_userbyid(n.nspowner)) AS reason, NULL AS remedy
          FROM journal AS n WHERE n.nspowner NOT IN (TABLE trusted)
          UNION ALL
          SELECT 2, pg_catalog.format('%s may create objects in the schema outboxd',
              CASE a.grantee WHEN 0 THEN 'every role' ELSE pg_catalog.format('role "%s"', pg_catalog.pg_get_userbyid(a.grantee)) END),
            pg_catalog.format('REVOKE CREATE ON SCHEMA outboxd FROM %s; ',
              CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END)
          FROM journal AS n CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) AS a
          WHERE a.privilege_type = 'CREATE' AND a.grantee NOT IN (TABLE trusted)
          UNION ALL
          \(relationFaults)
          UNION ALL
          SELECT 12, pg_catalog.format('the schema outboxd was not made by outboxd: outboxd.%s has no column %s', c.relname, u.name), NULL
          FROM relation AS c JOIN \(columns) USING (relname) CROSS JOIN LATERAL pg_catalog.unnest(w.names) AS u(name)
          WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute AS a
            WHERE a.attrelid = c.oid AND a.attname = u.name::pg_catalog.name AND NOT a.attisdropped)
          UNION ALL
          SELECT 12, pg_catalog.format('the schema outboxd was not made by outboxd: it has %s, and no table checkpoint',
            pg_catalog.min(c.relname)), NULL
          FROM pg_catalog.pg_class AS c JOIN journal AS n ON n.oid = c.relnamespace
          WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT EXISTS (SELECT FROM relation WHERE relname = 'checkpoint')
          HAVING pg_catalog.count(*) > 0\(absence)) AS f
        ORDER BY f.rank, f.reason LIMIT 1
      """
  }

  /// A query: the roles, `name`, that may write to the journal and so move a checkpoint, and have no right to it.
  static func writers(relay: String) -> String {
    """
    \(parts(relay: relay))
      SELECT r.rolname AS name FROM pg_catalog.pg_roles AS r
      WHERE r.oid NOT IN (TABLE trusted) AND NOT pg_catalog.starts_with(r.rolname, 'pg_')
        AND EXISTS (SELECT FROM relation AS c WHERE pg_catalog.has_schema_privilege(r.oid, c.relnamespace, 'USAGE')
          AND (pg_catalog.has_table_privilege(r.oid, c.oid, 'DELETE, TRUNCATE')
            OR pg_catalog.has_any_column_privilege(r.oid, c.oid, 'INSERT, UPDATE')))
      ORDER BY 1
    """
  }

  /// A line of PL/pgSQL: nobody changes the tables any more, nor attaches anything to them in a stronger `mode`.
  static func lock(_ tables: String = "outboxd.checkpoint", mode: String = "ACCESS SHARE") -> String {
    "LOCK TABLE \(tables) IN \(mode) MODE;"
  }

  /// Lines of PL/pgSQL that end with an error where the journal is not to be trusted; `fault` is a record.
  static func require(relay: String, isRequired: Bool) -> String {
    """
      SELECT * INTO fault FROM (
      \(judgement(relay: relay, isRequired: isRequired))
      ) AS judgement;
    \(refusal)
    """
  }

  /// Lines of PL/pgSQL, after which the tables may be named until the transaction ends where `fault`, a record, is empty:
  /// they are there, locked, and were found to be trusted after that. They are judged before, too: what is another's is
  /// not even locked.
  static func lockJudged(
    relay: String, tables: String = "outboxd.checkpoint", mode: String = "ACCESS SHARE"
  ) -> String {
    """
      FOR turn IN 1..2 LOOP
        SELECT * INTO fault FROM (
        \(judgement(relay: relay, isRequired: true))
        ) AS judgement;
        EXIT WHEN FOUND;
        IF turn = 1 THEN
          \(lock(tables, mode: mode))
        END IF;
      END LOOP;
    """
  }

  /// Lines of PL/pgSQL, after those above.
  static let refusal = """
      IF fault.reason IS NOT NULL THEN
        RAISE EXCEPTION '%', fault.reason USING HINT = fault.remedy;
      END IF;
    """

  /// Default privileges give rights on what is made, of which the relay would refuse these.
  private static func revocations(relay: String) -> String {
    let grantee =
      "CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END"
    return """
      \(parts(relay: relay))
        SELECT pg_catalog.format('REVOKE TRIGGER, REFERENCES ON outboxd.%I FROM %s', c.relname, \(grantee)) AS sql
        FROM relation AS c CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) AS a
        WHERE c.relname = ANY (made) AND a.privilege_type IN ('TRIGGER', 'REFERENCES') AND a.grantee NOT IN (TABLE trusted)
        UNION
        SELECT pg_catalog.format('REVOKE CREATE ON SCHEMA outboxd FROM %s', \(grantee))
        FROM journal AS n CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) AS a
        WHERE 'outboxd' = ANY (made) AND a.privilege_type = 'CREATE' AND a.grantee NOT IN (TABLE trusted)
      """
  }

  // MARK: Making it

  private static let isWhole =
    "(SELECT count(*) = 5 FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid "
    + "JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = 'outboxd' AND NOT a.attisdropped "
    + "AND c.relname IN ('checkpoint', 'checkpoint_history') "
    + "AND a.attname IN ('snapshot_lsn', 'publication', 'start_lsn', 'start_snapshot'))"

  /// Lines of PL/pgSQL: makes the tables that are missing, and adds the columns of later versions.
  private static let tables = """
    IF NOT \(has("checkpoint")) THEN
          CREATE TABLE outboxd.checkpoint (
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
          made := made || 'checkpoint'::name;
        END IF;
        IF NOT \(has("checkpoint_history")) THEN
          CREATE TABLE outboxd.checkpoint_history (
            slot text NOT NULL,
            lsn pg_lsn NOT NULL,
            snapshot text,
            snapshot_lsn pg_lsn,
            system_identifier text NOT NULL,
            timeline bigint NOT NULL,
            recorded_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (slot, recorded_at)
          );
          made := made || 'checkpoint_history'::name;
        END IF;
        IF NOT \(isWhole) THEN
          ALTER TABLE outboxd.checkpoint ADD COLUMN IF NOT EXISTS snapshot_lsn pg_lsn,
            ADD COLUMN IF NOT EXISTS publication text, ADD COLUMN IF NOT EXISTS start_lsn pg_lsn,
            ADD COLUMN IF NOT EXISTS start_snapshot text;
          ALTER TABLE outboxd.checkpoint_history ADD COLUMN IF NOT EXISTS snapshot_lsn pg_lsn;
        END IF;
        IF NOT \(has("job")) THEN
          CREATE TABLE outboxd.job (
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
          made := made || 'job'::name;
        END IF;
    """

  /// Makes what is missing, and judges before and afterwards: what is there is used only where it is trusted, and
  /// nothing is left that a relay would refuse.
  static func statement(relay: String) -> SetupStatement {
    SetupStatement(
      comment: "The checkpoints of outboxd, and the positions of replays and backfills.",
      sql: "DO "
        + SQLText.dollarQuoted(
          """

          DECLARE
            fault record;
            made name[] := '{}';
            revocation text;
          BEGIN
            FOR turn IN 1..2 LOOP
            \(require(relay: relay, isRequired: false))
              IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'outboxd') THEN
                CREATE SCHEMA outboxd;
                made := made || 'outboxd'::name;
              END IF;
              \(tables)
              FOR revocation IN
              \(revocations(relay: relay))
              LOOP
                EXECUTE revocation;
              END LOOP;
            END LOOP;
          END

          """) + ";",
      presence:
        "(\(["checkpoint", "checkpoint_history", "job"].map(has).joined(separator: " AND ")) AND \(isWhole) "
        + "AND NOT EXISTS (\(judgement(relay: relay))))",
      needs: "a superuser, or a member of the relay's role with CREATE on the database")
  }
}
