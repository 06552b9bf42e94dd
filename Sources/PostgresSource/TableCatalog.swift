// Owns: the catalog queries about tables whose rows are read.
// Must not know: the statement that reads them.
import RelayCore

struct TableCatalog {
  let connection: SQLConnection
  let settings: PostgresSettings
  let publication: PublicationFacts?

  struct Server {
    var database: String
    var tracksCommitTimes: Bool
    var nextTransaction: UInt64
  }

  /// In the transaction that reads the rows.
  func server() throws(RelayError) -> Server {
    let result = try connection.query(
      """
      SELECT current_database()::text AS database, current_setting('track_commit_timestamp') = 'on' AS tracked,
        pg_snapshot_xmax(pg_current_snapshot()) AS next
      """)
    return Server(
      database: result[0, "database"] ?? "", tracksCommitTimes: result[0, "tracked"] == "t",
      nextTransaction: result[0, "next"].flatMap { UInt64($0) } ?? 3)
  }

  /// - Throws: `tableUnsuitable` where there is no such table, `sourceDenied` where the role may not read it.
  func shape(_ mapping: OutboxMapping) throws(RelayError) -> TableShape {
    let table = SQLText.literal(SQLText.qualified(mapping.schema, mapping.table))
    let result = try connection.query(columnQuery(table))
    guard !result.rows.isEmpty, let oid = result[0, "relation"].flatMap({ UInt32($0) }) else {
      throw RelayError(
        .tableUnsuitable, "there is no table \(mapping.qualifiedName)",
        remedy: "Create it (sql/01_outbox.sql), or correct the name under outboxes.")
    }
    guard result[0, "readable"] == "t" else { throw denied(mapping, role: result[0, "role"] ?? "...") }
    let isPartitioned = result[0, "relkind"] == "p"
    var shape = TableShape(
      schema: mapping.schema, table: mapping.table, oid: oid, isPartitioned: isPartitioned, columns: [],
      storage: "", estimatedRows: 0)
    let listed = publication?.tables.first { $0.schema == mapping.schema && $0.name == mapping.table }?
      .columns
    for row in result.rows.indices {
      guard let name = result[row, "attname"] else { continue }
      let type = result[row, "type_oid"].flatMap { UInt32($0) } ?? 0
      let typeName = result[row, "type_name"] ?? ""
      let columnType =
        ColumnType.builtIn(oid: type) ?? (typeName == "citext" ? .text : .other(oid: type, name: typeName))
      if listed?.contains(name) ?? (result[row, "published"] == "t") {
        shape.columns.append(
          TableShape.Column(name: name, type: columnType, hasBinaryForm: result[row, "sendable"] == "t"))
      }
      if shape.serial == nil, result[row, "serial"] == "t" { shape.serial = name }
      if name == timeColumn(mapping, result), columnType == .timestamptz || columnType == .timestamp {
        shape.time = (name, columnType == .timestamptz)
      }
    }
    let storage = try connection.query(Self.storageQuery(table))
    shape.storage = storage[0, "storage"] ?? ""
    shape.updates = storage[0, "updates"].flatMap { Int64($0) } ?? 0
    shape.estimatedRows = storage[0, "estimate"].flatMap { Int64($0) } ?? -1
    return shape
  }

  private func timeColumn(_ mapping: OutboxMapping, _ columns: SQLResult) -> String? {
    if let name = mapping.columns.time { return name }
    let usual = OutboxMapping.Columns.defaults.first { $0.role == "time" }?.names ?? []
    return usual.first { name in columns.rows.indices.contains { columns[$0, "attname"] == name } }
  }

  private func denied(_ mapping: OutboxMapping, role: String) -> RelayError {
    let grantee = SQLText.identifier(role)
    return RelayError(
      .sourceDenied, "the role \"\(role)\" may not read \(mapping.qualifiedName)",
      remedy: "GRANT USAGE ON SCHEMA \(SQLText.identifier(mapping.schema)) TO \(grantee); GRANT SELECT ON "
        + "\(SQLText.qualified(mapping.schema, mapping.table)) TO \(grantee);")
  }

  /// A generated column is published from 18 on where the publication says so, and only a stored one. A serial counts
  /// where its sequence hands out one value at a time, upwards: cached ones are not in the order of the inserts.
  private func columnQuery(_ table: String) -> String {
    let generated =
      connection.serverVersion >= 180_000
      ? "SELECT coalesce((SELECT pubgencols = 's' FROM pg_publication WHERE pubname = "
        + "\(SQLText.literal(settings.publication))), false) AS generated"
      : "SELECT false AS generated"
    return """
      SELECT c.oid AS relation, c.relkind, current_user::text AS role, a.attname,
        has_schema_privilege(c.relnamespace, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS readable,
        a.attgenerated = '' OR (a.attgenerated = 's' AND p.generated) AS published,
        t.typsend <> 0 AS sendable, base.oid AS type_oid, base.typname AS type_name,
        a.atttypid IN (20, 21, 23) AND (a.attidentity <> '' OR pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%')
          AND EXISTS (SELECT FROM pg_depend s JOIN pg_sequence q ON q.seqrelid = s.objid
            WHERE s.classid = 'pg_class'::regclass AND s.refclassid = 'pg_class'::regclass AND s.refobjid = c.oid
              AND s.refobjsubid = a.attnum AND s.deptype IN ('a', 'i')
              AND q.seqcache = 1 AND q.seqincrement > 0 AND NOT q.seqcycle) AS serial
      FROM pg_class c CROSS JOIN (\(generated)) AS p
      LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      LEFT JOIN pg_type t ON t.oid = a.atttypid
      LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
      \(SlotInspector.joinedBaseType)
      WHERE c.oid = to_regclass(\(table)) AND c.relkind IN ('r', 'p') ORDER BY a.attnum
      """
  }

  private static func storageQuery(_ table: String) -> String {
    """
    SELECT md5(string_agg(leaf || ':' || coalesce(pg_relation_filenode(leaf), 0), ',' ORDER BY leaf)
        || current_setting('track_commit_timestamp')
        || (SELECT oldest_commit_ts_xid FROM pg_control_checkpoint())) AS storage,
      sum(pg_stat_get_tuples_updated(leaf)) AS updates,
      CASE WHEN bool_and(reltuples >= 0) THEN sum(reltuples)::bigint ELSE -1 END AS estimate
    FROM (SELECT c.oid AS leaf, c.reltuples FROM pg_class c WHERE c.relkind = 'r' AND (c.oid = to_regclass(\(table))
      OR c.oid IN (SELECT relid FROM pg_partition_tree(to_regclass(\(table)))))) AS leaves
    """
  }
}
