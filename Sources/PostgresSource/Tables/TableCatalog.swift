// Owns: the catalog queries about tables whose rows are read.
// Must not know: the statement that reads them.
public import RelayCore

/// An outbox whose rows are read.
public struct TableRead: Equatable, Sendable {
  public var mapping: OutboxMapping
  /// Nil: the table that has the outbox's name.
  public var oid: UInt32?
  /// Tables that may hold rows of it as well, each with the name that it published them under: partitions that may have
  /// been detached, tables that had the outbox's name before. Those that do not exist any more are left out.
  public var others: [UInt32: TableName] = [:]
  /// Where the rows of a table begin to be the stream's. None: where the range says.
  public var starts: [UInt32: SlotStart] = [:]

  public init(_ mapping: OutboxMapping) { self.mapping = mapping }
}

struct TableCatalog {
  let connection: SQLConnection
  let settings: PostgresSettings
  let publication: PublicationFacts?

  struct Server {
    var database: String
    var tracksCommitTimes: Bool
    var nextTransaction: UInt64
    /// The oldest that ran when the read's snapshot was taken.
    var horizon: UInt64
  }

  /// In the transaction that reads the rows.
  func server() throws(RelayError) -> Server {
    let result = try connection.query(
      """
      SELECT current_database()::text AS database, current_setting('track_commit_timestamp') = 'on' AS tracked,
        pg_snapshot_xmax(pg_current_snapshot()) AS next, pg_snapshot_xmin(pg_current_snapshot()) AS horizon
      """)
    return Server(
      database: result[0, "database"] ?? "", tracksCommitTimes: result[0, "tracked"] == "t",
      nextTransaction: result[0, "next"].flatMap { UInt64($0) } ?? 3,
      horizon: result[0, "horizon"].flatMap { UInt64($0) } ?? 3)
  }

  /// The tables that hold rows of the outboxes: the others that still exist, whose rows are the older ones, then theirs.
  /// - Throws: as `shape`.
  func shapes(_ reads: [TableRead]) throws(RelayError) -> [TableShape] {
    var heads: [TableShape] = []
    for read in reads {
      var head = try shape(read.mapping, read.oid.map(String.init))
      let name = TableName(read.mapping.schema, read.mapping.table)
      // Since an interruption it may have got another one.
      if TableName(head.schema, head.table) != name { head.formerName = name }
      head.start = read.starts[head.oid]
      heads.append(head)
    }
    let owners = reads.reduce(into: [UInt32: (TableRead, TableName)]()) { owners, read in
      for (oid, name) in read.others { owners[oid] = (read, name) }
    }
    var others: [TableShape] = []
    for oid in try apart(Array(owners.keys), from: heads.map(\.oid)) {
      guard let (read, name) = owners[oid] else { continue }
      var other = try shape(read.mapping, String(oid), formerName: name)
      other.start = read.starts[oid]
      others.append(other)
    }
    return others + heads
  }

  /// Partitions and former tables that do not exist any more.
  func dropped(_ reads: [TableRead]) throws(RelayError) -> [DroppedTable] {
    let others = reads.flatMap { read in
      read.others.keys.map { DroppedTable(oid: $0, outbox: read.mapping.qualifiedName) }
    }
    guard !others.isEmpty else { return [] }
    let result = try connection.query(
      "SELECT oid FROM pg_class WHERE oid IN (\(others.map { String($0.oid) }.joined(separator: ", ")))")
    let existing = Set(result.rows.indices.compactMap { result[$0, "oid"].flatMap { UInt32($0) } })
    return others.filter { !existing.contains($0.oid) }.sorted { $0.oid < $1.oid }
  }

  /// Those of `relations` that exist as tables of their own, and whose rows no other table of both lists has.
  private func apart(_ relations: [UInt32], from heads: [UInt32]) throws(RelayError) -> [UInt32] {
    guard !relations.isEmpty else { return [] }
    func list(_ oids: [UInt32]) -> String { oids.sorted().map(String.init).joined(separator: ", ") }
    let result = try connection.query(
      """
      WITH RECURSIVE tree AS (
        SELECT inhrelid FROM pg_inherits WHERE inhparent IN (\(list(heads + relations))) AND NOT inhdetachpending
        UNION
        SELECT i.inhrelid FROM tree JOIN pg_inherits i ON i.inhparent = tree.inhrelid AND NOT i.inhdetachpending)
      SELECT c.oid FROM pg_class c WHERE c.oid IN (\(list(relations))) AND c.oid NOT IN (\(list(heads)))
        AND c.relkind IN ('r', 'p') AND NOT (c.relispartition AND c.oid IN (SELECT inhrelid FROM tree)) ORDER BY c.oid
      """)
    return result.rows.indices.compactMap { result[$0, "oid"].flatMap { UInt32($0) } }
  }

  /// - Parameters:
  ///   - oid: of the table; nil: the one that has the mapping's name.
  ///   - formerName: the name that the rows were published under, where the table is not the mapping's now.
  /// - Throws: `tableUnsuitable` where there is no such table, `sourceDenied` where the role may not read it.
  func shape(
    _ mapping: OutboxMapping, _ oid: String? = nil, formerName: TableName? = nil
  ) throws(RelayError) -> TableShape {
    let table =
      oid ?? "to_regclass(\(SQLText.literal(SQLText.qualified(mapping.schema, mapping.table))))"
    let result = try connection.query(columnQuery(table))
    guard !result.rows.isEmpty, let oid = result[0, "relation"].flatMap({ UInt32($0) }) else {
      throw Self.missing(mapping, oid)
    }
    let name = TableName(result[0, "nspname"] ?? "", result[0, "relname"] ?? "")
    guard ["r", "p"].contains(result[0, "relkind"]) else { throw Self.noTable(name) }
    guard result[0, "readable"] == "t" else { throw denied(name, mapping, role: result[0, "role"] ?? "...") }
    var shape = TableShape(
      schema: name.schema, table: name.name, oid: oid, isPartitioned: result[0, "relkind"] == "p",
      outbox: mapping,
      formerName: formerName, columns: [], storage: "", estimatedRows: 0)
    let order = addColumns(to: &shape, mapping, result)
    let storage = try connection.query(Self.storageQuery(table))
    shape.storage = (storage[0, "storage"] ?? "") + order
    func numbers(_ column: String) -> [UInt32] {
      storage[0, column]?.split(separator: ",").compactMap { UInt32($0) } ?? []
    }
    shape.partitions = numbers("leaves").filter { $0 != oid }
    shape.fileNodes = Dictionary(zip(numbers("leaves"), numbers("nodes"))) { $1 }
    let primary = result.rows.indices.filter { result[$0, "is_primary"] == "t" }.compactMap {
      result[$0, "attname"]
    }
    shape.keyColumns = Self.keyColumns(mapping, shape, primary: primary)
    shape.estimatedRows = storage[0, "estimate"].flatMap { Int64($0) } ?? -1
    return shape
  }

  private static func missing(_ mapping: OutboxMapping, _ oid: String?) -> RelayError {
    if let oid {
      return RelayError(
        .tableUnsuitable,
        "table \(mapping.qualifiedName) (OID \(oid)) was dropped since this read was planned",
        remedy: "Its rows are gone. Start the command again to read the present table.")
    }
    return RelayError(
      .tableUnsuitable, "there is no table \(mapping.qualifiedName)",
      remedy: "Create it (sql/01_outbox.sql), or correct the name under outboxes.")
  }

  /// The columns that the publication has, and those by which rows are ordered.
  /// - Returns: what stands for that order in a place.
  private func addColumns(to shape: inout TableShape, _ mapping: OutboxMapping, _ result: SQLResult) -> String
  {
    let oid = shape.oid
    let member = publication?.tables.first { $0.oid == oid }
    var order = ""
    for row in result.rows.indices {
      guard let name = result[row, "attname"] else { continue }
      let type = result[row, "type_oid"].flatMap { UInt32($0) } ?? 0
      let typeName = result[row, "type_name"] ?? ""
      let columnType =
        ColumnType.builtIn(oid: type) ?? (typeName == "citext" ? .text : .other(oid: type, name: typeName))
      let generated = result[row, "generated"] ?? ""
      if publication?.publishes(name, generated: generated, of: member) ?? generated.isEmpty {
        shape.columns.append(
          TableShape.Column(name: name, type: columnType, hasBinaryForm: result[row, "sendable"] == "t"))
      }
      let identity = "\(result[row, "attnum"] ?? ""):\(type)"
      if shape.serial == nil, result[row, "serial"] == "t" {
        shape.serial = name
        shape.isSerialUnique = result[row, "is_unique"] == "t"
        order = "serial:\(identity)"
      }
      if name == timeColumn(mapping, result), columnType == .timestamptz || columnType == .timestamp {
        if shape.serial == nil { order = "time:\(identity):\(mapping.columns.timeZone?.name ?? "")" }
        shape.time = TableShape.Time(
          column: name, isZoned: columnType == .timestamptz, zone: mapping.columns.timeZone?.name)
      }
    }
    return order
  }

  /// Those of the id, the source and the primary key, where all of them are published.
  private static func keyColumns(_ mapping: OutboxMapping, _ shape: TableShape, primary: [String]) -> [String]
  {
    let names = shape.columns.map(\.name)
    let id = mapping.columns.id ?? "id"
    guard names.contains(id), primary.allSatisfy(names.contains) else { return [] }
    var wanted = Set([id] + primary + mapping.source.placeholders)
    if !mapping.source.placeholders.allSatisfy((names + ["database", "schema", "table"]).contains) {
      // A placeholder names the part of an event.
      let columns = mapping.columns
      wanted.formUnion([columns.subject, columns.aggregatetype, columns.type].compactMap(\.self))
      for (role, names) in OutboxMapping.Columns.defaults
      where ["subject", "aggregatetype", "type"].contains(role) {
        wanted.formUnion(names)
      }
    }
    // In an order of their own: a partition may have its columns in another one.
    return names.filter(wanted.contains).sorted()
  }

  private func timeColumn(_ mapping: OutboxMapping, _ columns: SQLResult) -> String? {
    if let name = mapping.columns.time { return name }
    let usual = OutboxMapping.Columns.defaults.first { $0.role == "time" }?.names ?? []
    return usual.first { name in columns.rows.indices.contains { columns[$0, "attname"] == name } }
  }

  private static func noTable(_ name: TableName) -> RelayError {
    RelayError(
      .tableUnsuitable,
      "\(name.qualified) is a view or another relation, not a table: outboxd reads rows of tables only",
      remedy: "Put the table back under this name, or correct the name under outboxes.")
  }

  private func denied(_ table: TableName, _ mapping: OutboxMapping, role: String) -> RelayError {
    let grantee = SQLText.identifier(role)
    let of =
      table == TableName(mapping.schema, mapping.table)
      ? "" : ", which holds rows of \(mapping.qualifiedName)"
    return RelayError(
      .sourceDenied, "the role \"\(role)\" may not read \(table.qualified)\(of)",
      remedy: "GRANT USAGE ON SCHEMA \(SQLText.identifier(table.schema)) TO \(grantee); GRANT SELECT ON "
        + "\(table.sql) TO \(grantee);")
  }

  /// A serial counts where its sequence hands out one value at a time, upwards: cached ones are not in the order of the
  /// inserts.
  private func columnQuery(_ table: String) -> String {
    return """
      SELECT c.oid AS relation, n.nspname, c.relname, c.relkind, current_user::text AS role, a.attname, a.attnum,
        has_schema_privilege(c.relnamespace, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS readable,
        a.attgenerated AS generated, coalesce(a.attnum = ANY (i.indkey::int2[]), false) AS is_primary,
        EXISTS (SELECT FROM pg_index u WHERE u.indrelid = c.oid AND u.indisunique AND u.indisvalid AND u.indimmediate
          AND u.indpred IS NULL AND u.indnkeyatts = 1 AND u.indkey[0] = a.attnum) AND a.attnotnull AS is_unique,
        t.typsend <> 0 AS sendable, base.oid AS type_oid, base.typname AS type_name,
        a.atttypid IN (20, 21, 23) AND (a.attidentity <> '' OR pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%')
          AND EXISTS (SELECT FROM pg_depend s JOIN pg_sequence q ON q.seqrelid = s.objid
            WHERE s.classid = 'pg_class'::regclass AND s.refclassid = 'pg_class'::regclass AND s.refobjid = c.oid
              AND s.refobjsubid = a.attnum AND s.deptype IN ('a', 'i')
              AND q.seqcache = 1 AND q.seqincrement > 0 AND NOT q.seqcycle) AS serial
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      LEFT JOIN pg_type t ON t.oid = a.atttypid
      LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
      LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
      \(SlotInspector.joinedBaseType)
      WHERE c.oid = \(table) ORDER BY a.attnum
      """
  }

  private static func storageQuery(_ table: String) -> String {
    """
    SELECT md5(string_agg(leaf || ':' || coalesce(pg_relation_filenode(leaf), 0), ',' ORDER BY leaf)
        || current_setting('track_commit_timestamp')
        || (SELECT oldest_commit_ts_xid FROM pg_control_checkpoint())) AS storage,
      string_agg(leaf::text, ',' ORDER BY leaf) AS leaves,
      string_agg(coalesce(pg_relation_filenode(leaf), 0)::text, ',' ORDER BY leaf) AS nodes,
      CASE WHEN bool_and(reltuples >= 0) THEN sum(reltuples)::bigint ELSE -1 END AS estimate
    FROM (SELECT c.oid AS leaf, c.reltuples FROM pg_class c WHERE c.relkind = 'r' AND (c.oid = \(table)
      OR c.oid IN (SELECT relid FROM pg_partition_tree(\(table))))) AS leaves
    """
  }
}
