// Owns: the catalog queries that `ServerFacts` is read with.
// Must not know: what follows from the facts.
import RelayCore

/// Reads facts. All statements are plain text, so that they also run on a replication connection.
struct SlotInspector {
  let connection: SQLConnection
  let settings: PostgresSettings

  /// The facts that are one value each; of the rest, what `ServerFacts` has by default.
  func serverFacts(_ identity: ReplicationConnection.Identity) throws(RelayError) -> ServerFacts {
    let result = try connection.query(
      """
      SELECT current_setting('wal_level') AS wal_level, pg_is_in_recovery() AS recovery,
        (SELECT setting FROM pg_settings WHERE name = 'wal_sender_timeout') AS timeout,
        (SELECT setting FROM pg_settings WHERE name = 'idle_replication_slot_timeout') AS idle_timeout,
        current_setting('server_encoding') AS encoding, pg_backend_pid() AS backend
      """)
    func number(_ column: String) -> Int? { result[0, column].flatMap { Int($0) } }
    var facts = ServerFacts(
      serverVersion: connection.serverVersion, systemIdentifier: identity.systemIdentifier,
      timeline: identity.timeline, walEnd: identity.walEnd, database: identity.database,
      walLevel: result[0, "wal_level"] ?? "", isInRecovery: result[0, "recovery"] == "t",
      walSenderTimeout: number("timeout") ?? 60_000)
    facts.reached = connection.reached
    facts.encoding = result[0, "encoding"] ?? ""
    facts.idleSlotTimeout = number("idle_timeout") ?? 0
    // A pooler gives a key of its own to cancel with.
    facts.isPooled = number("backend") != connection.backend
    return facts
  }

  /// What a role has by its attributes, by the memberships that reach beyond the database, and in the database.
  func role() throws(RelayError) -> RoleFacts {
    let result = try connection.query(
      """
      SELECT rolname, unnest(array_remove(CASE WHEN rolsuper THEN ARRAY['SUPERUSER'] ELSE ARRAY[
          CASE WHEN rolcreaterole THEN 'CREATEROLE' END, CASE WHEN rolcreatedb THEN 'CREATEDB' END,
          CASE WHEN has_database_privilege(r.oid, current_database(), 'CREATE') THEN 'CREATE on the database' END
        ] || ARRAY(SELECT 'membership in ' || m.rolname FROM pg_roles m WHERE pg_has_role(r.oid, m.oid, 'USAGE')
          AND m.rolname IN ('pg_read_all_data', 'pg_write_all_data', 'pg_read_server_files', 'pg_write_server_files',
            'pg_execute_server_program', 'pg_signal_backend', 'pg_maintain') ORDER BY m.rolname)
        END || ARRAY[NULL, ''], NULL)) AS excess
      FROM pg_roles r WHERE rolname = current_user
      """)
    var role = RoleFacts()
    role.name = result[0, "rolname"] ?? ""
    role.excess = result.rows.indices.compactMap { result[$0, "excess"] }.filter { !$0.isEmpty }
    return role
  }

  func slot() throws(RelayError) -> SlotFacts? { try slot(named: settings.slot) }

  func slot(named name: String) throws(RelayError) -> SlotFacts? {
    let invalidation =
      switch connection.serverVersion {
      case 170_000...: "invalidation_reason"
      case 160_000...: "CASE WHEN conflicting THEN 'conflicting' END"
      default: "NULL"
      }
    let failover =
      connection.serverVersion >= 170_000 ? "failover, synced" : "false AS failover, false AS synced"
    let result = try connection.query(
      """
      SELECT plugin, slot_type, database, temporary, two_phase, active, active_pid, restart_lsn, confirmed_flush_lsn,
        wal_status, safe_wal_size, \(failover), \(invalidation) AS invalidation
      FROM pg_replication_slots WHERE slot_name = \(SQLText.literal(name))
      """)
    guard !result.rows.isEmpty else { return nil }
    var slot = SlotFacts(plugin: result[0, "plugin"], database: result[0, "database"])
    slot.slotType = result[0, "slot_type"] ?? ""
    slot.isTemporary = result[0, "temporary"] == "t"
    slot.isTwoPhase = result[0, "two_phase"] == "t"
    slot.isFailover = result[0, "failover"] == "t"
    slot.isSynchronized = result[0, "synced"] == "t"
    slot.isActive = result[0, "active"] == "t"
    slot.activePID = result[0, "active_pid"].flatMap { Int($0) }
    slot.restartLSN = result[0, "restart_lsn"].flatMap { LSN($0) }
    slot.confirmedFlushLSN = result[0, "confirmed_flush_lsn"].flatMap { LSN($0) }
    slot.walStatus = result[0, "wal_status"]
    slot.safeWALSize = result[0, "safe_wal_size"].flatMap { Int64($0) }
    slot.invalidationReason = result[0, "invalidation"]
    if slot.isBeingCreated, let pid = slot.activePID {
      slot.waitsFor = try OpenTransaction.blocking(pid, on: connection).first
    }
    return slot
  }

  /// The publication and the outbox tables as they were at one moment. Several statements read them: two readings that are
  /// alike saw no change in between, and until the end of the first one it was so.
  /// - Throws: `sourceUnavailable` where there is a change at each reading.
  func outboxes(
    _ mappings: [OutboxMapping], since record: PublicationRecord?
  ) throws(RelayError) -> (publication: PublicationFacts?, tables: [TableFacts]) {
    func read() throws(RelayError) -> (publication: PublicationFacts?, tables: [TableFacts]) {
      (try publication(since: record), try tables(mappings))
    }
    var last = try read()
    for _ in 0..<20 {
      let next = try read()
      var comparable = next
      if let seenAt = last.publication?.seenAt { comparable.publication?.seenAt = seenAt }
      if comparable == last { return last }
      last = next
    }
    throw RelayError(
      .sourceUnavailable,
      "publication \"\(settings.publication)\" and its tables changed while outboxd read them, twenty times in a row",
      remedy: "None is needed: outboxd reads them again.")
  }

  /// - Parameter record: what was known of it before: where its tables are now is part of the facts.
  func publication(since record: PublicationRecord? = nil) throws(RelayError) -> PublicationFacts? {
    let name = SQLText.literal(settings.publication)
    let head = try connection.query(
      """
      SELECT p.oid, p.xmin AS version, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot, puballtables,
        pg_get_userbyid(p.pubowner) AS owner, \(TrustSQL.isPublicationTrusted(
          relay: JournalSQL.ownRole, tables: "SELECT relid FROM pg_get_publication_tables(p.pubname)")) AS trusted,
        \(connection.serverVersion >= 180_000 ? "pubgencols = 's'" : "false") AS generated
      FROM pg_publication AS p WHERE pubname = \(name)
      """)
    guard !head.rows.isEmpty else { return nil }
    var facts = PublicationFacts(
      oid: head[0, "oid"].flatMap { UInt32($0) } ?? 0, tables: try publishedTables(name))
    facts.owner = head[0, "owner"] ?? ""
    facts.isOwnerTrusted = head[0, "trusted"] == "t"
    facts.version = head[0, "version"] ?? ""
    try readMembers(into: &facts, since: record)
    facts.publishesInserts = head[0, "pubinsert"] == "t"
    facts.publishesUpdates = head[0, "pubupdate"] == "t"
    facts.publishesDeletes = head[0, "pubdelete"] == "t"
    facts.publishesTruncates = head[0, "pubtruncate"] == "t"
    facts.publishesGenerated = head[0, "generated"] == "t"
    facts.canPublishGenerated = connection.serverVersion >= 180_000
    facts.viaRoot = head[0, "pubviaroot"] == "t"
    facts.isForAllTables = head[0, "puballtables"] == "t"
    return facts
  }

  /// - Parameter name: of the publication, as a literal.
  private func publishedTables(_ name: String) throws(RelayError) -> [PublicationFacts.Table] {
    let tables = try connection.query(
      """
      SELECT c.oid, n.nspname, c.relname, pr.prqual IS NOT NULL AS filtered, pr.prattrs IS NOT NULL AS listed,
        (SELECT string_agg(a.attname, chr(10)) FROM pg_attribute a
          WHERE a.attrelid = c.oid AND a.attnum = ANY (t.attrs)) AS columns
      FROM pg_publication p CROSS JOIN LATERAL pg_get_publication_tables(p.pubname) AS t
      JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN pg_publication_rel pr ON pr.prpubid = p.oid AND pr.prrelid = c.oid
      WHERE p.pubname = \(name) ORDER BY 2, 3
      """)
    return tables.rows.indices.map { row in
      var table = PublicationFacts.Table(
        schema: tables[row, "nspname"] ?? "", name: tables[row, "relname"] ?? "",
        hasRowFilter: tables[row, "filtered"] == "t", hasColumnList: tables[row, "listed"] == "t")
      table.oid = tables[row, "oid"].flatMap { UInt32($0) } ?? 0
      if table.hasColumnList {
        table.columns = tables[row, "columns"]?.split(separator: "\n").map(String.init)
      }
      return table
    }
  }

  /// Joins `base`, the type of the attribute `a`; of a domain, however deep, the type below.
  static let joinedBaseType = """
    LEFT JOIN LATERAL (
      WITH RECURSIVE types AS (
        SELECT oid, typname, typbasetype FROM pg_type WHERE oid = a.atttypid
        UNION ALL
        SELECT t.oid, t.typname, t.typbasetype FROM types JOIN pg_type t ON t.oid = types.typbasetype)
      SELECT oid, typname FROM types WHERE typbasetype = 0) AS base ON true
    """

  func tables(_ mappings: [OutboxMapping]) throws(RelayError) -> [TableFacts] {
    var found: [TableFacts] = []
    for mapping in mappings {
      if let table = try table(mapping) { found.append(table) }
    }
    return found
  }

  private func table(_ mapping: OutboxMapping) throws(RelayError) -> TableFacts? {
    let result = try connection.query(
      """
      SELECT c.oid AS relation, c.relkind, c.relpersistence, c.relispartition, a.attname, format_type(a.atttypid, a.atttypmod) AS type,
        base.oid AS type_oid, base.typname AS type_name,
        NOT a.attnotnull AS nullable,
        has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS readable,
        a.attgenerated AS generated, row_security_active(c.oid) AS secured,
        c.relreplident IN ('f', 'i') OR (c.relreplident = 'd'
          AND EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)) AS identified,
        (SELECT string_agg(l.oid::regclass::text, chr(10) ORDER BY l.oid) FROM pg_partition_tree(c.oid) AS t
          JOIN pg_class l ON l.oid = t.relid
          WHERE c.relkind = 'p' AND t.isleaf AND l.relkind = 'r' AND l.relpersistence <> 'p') AS unlogged
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      \(Self.joinedBaseType)
      WHERE n.nspname = \(SQLText.literal(mapping.schema)) AND c.relname = \(SQLText.literal(mapping.table))
      ORDER BY a.attnum
      """)
    guard !result.rows.isEmpty else { return nil }
    var table = TableFacts(schema: mapping.schema, name: mapping.table)
    table.oid = result[0, "relation"].flatMap { UInt32($0) } ?? 0
    table.kind = result[0, "relkind"] ?? ""
    table.persistence = result[0, "relpersistence"] ?? ""
    // What another role reads is examined as that role: `ReadingRole`.
    table.isReadable = settings.readConninfo != nil || result[0, "readable"] == "t"
    table.isPartition = result[0, "relispartition"] == "t"
    table.hasRowSecurity = settings.readConninfo == nil && result[0, "secured"] == "t"
    table.hasReplicaIdentity = result[0, "identified"] == "t"
    table.unloggedPartitions = result[0, "unlogged"]?.split(separator: "\n").map(String.init) ?? []
    table.columns = result.rows.indices.compactMap { row in
      guard let name = result[row, "attname"] else { return nil }
      return TableFacts.Column(
        name: name, type: result[row, "type"] ?? "",
        typeOID: result[row, "type_oid"].flatMap { UInt32($0) } ?? 0,
        typeName: result[row, "type_name"] ?? "",
        isNullable: result[row, "nullable"] == "t", generated: result[row, "generated"] ?? "")
    }
    return table
  }
}

extension SlotReading {
  /// Reads it, by a query that touches no table.
  /// - Returns: nil where there is no such slot.
  static func read(slot: String, on connection: SQLConnection) throws(RelayError) -> SlotReading? {
    let time = MonotonicTime.now()
    let result = try connection.query(
      """
      SELECT pg_wal_lsn_diff(here, confirmed_flush_lsn)::bigint AS lag,
        pg_wal_lsn_diff(here, restart_lsn)::bigint AS retained, safe_wal_size, wal_status
      FROM pg_replication_slots, (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
        ELSE pg_current_wal_lsn() END AS here) AS wal
      WHERE slot_name = \(SQLText.literal(slot))
      """)
    guard !result.rows.isEmpty else { return nil }
    func number(_ column: String) -> Int64? { result[0, column].flatMap { Int64($0) } }
    return SlotReading(
      time: time, lagBytes: number("lag"), retainedBytes: number("retained"),
      safeBytes: number("safe_wal_size"),
      walStatus: result[0, "wal_status"])
  }
}
