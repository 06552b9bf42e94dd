// Owns: whether the schema outboxd is a journal of outboxd's, in SQL.
// Must not know: what is written to it.

enum JournalSQL {
  /// The columns that every version of the journal has had.
  private static let columns: [(table: String, columns: [String])] = [
    ("checkpoint", ["slot", "lsn", "snapshot", "system_identifier", "timeline", "updated_at"]),
    ("checkpoint_history", ["slot", "lsn", "snapshot", "system_identifier", "timeline", "recorded_at"]),
    (
      "job",
      ["id", "slot", "command", "request", "position", "events", "started_at", "updated_at", "finished_at"]
    ),
  ]

  /// An SQL expression: the table of checkpoints is there, and may be read.
  static let isReadable = """
    EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'outboxd' AND c.relname = 'checkpoint' AND has_schema_privilege(n.oid, 'USAGE')
          AND has_table_privilege(c.oid, 'SELECT'))
    """

  /// Refuses a schema of that name which somebody else has made.
  static let guardStatement = SetupStatement(
    comment: "The schema outboxd must be outboxd's own.",
    sql: "DO "
      + SQLText.dollarQuoted(
        """

        DECLARE
          fault text := (
            SELECT format('outboxd.%s has no column %s', w.relname, w.attname)
            FROM (VALUES \(wanted)) AS w(relname, attname)
            JOIN pg_catalog.pg_class c ON c.relname = w.relname
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'outboxd'
            WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a
              WHERE a.attrelid = c.oid AND a.attname = w.attname AND NOT a.attisdropped) LIMIT 1);
          foreigner text := (
            SELECT min(c.relname) FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'outboxd'
            WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT EXISTS (SELECT FROM pg_catalog.pg_class j
              WHERE j.relnamespace = n.oid AND j.relname = 'checkpoint'));
        BEGIN
          IF fault IS NULL AND foreigner IS NOT NULL THEN
            fault := format('it has %s, and no table checkpoint', foreigner);
          END IF;
          IF fault IS NOT NULL THEN
            RAISE EXCEPTION 'the schema outboxd was not made by outboxd: %', fault USING HINT = \(SQLText.literal(remedy));
          END IF;
        END

        """) + ";", remedy: remedy)

  private static let remedy =
    "Rename that schema, or set postgres.journal: off, and outboxd runs without a journal."

  private static let wanted = columns.flatMap { table in
    table.columns.map { "('\(table.table)', '\($0)')" }
  }.joined(separator: ", ")
}
