// Owns: the catalog queries about the tables of a publication: by OID, with their names and partitions.
// Must not know: what follows from them.
import RelayCore

extension SlotInspector {
  /// Reads the members, and what became of the record's tables that are none any more.
  func readMembers(
    into facts: inout PublicationFacts, since record: PublicationRecord?
  ) throws(RelayError) {
    // No lock on the tables: whoever alters one must not hold up the watch. Of the attribute tableoid (-6) no statement
    // touches the row after the table's creation.
    let members = try connection.query(
      """
      SELECT m.relation, m.membership, n.nspname, c.relname, y.xmin AS named, a.xmin AS created,
        pg_relation_filenode(c.oid) AS file_node, (
        WITH RECURSIVE tree AS (SELECT c.oid, c.relkind UNION ALL
          SELECT l.oid, l.relkind FROM tree JOIN pg_inherits i ON i.inhparent = tree.oid AND NOT i.inhdetachpending
          JOIN pg_class l ON l.oid = i.inhrelid WHERE tree.relkind = 'p')
        SELECT string_agg(oid::text, ',') FROM tree WHERE relkind = 'r' AND oid <> c.oid) AS partitions
      FROM (\(memberships)) AS m JOIN pg_class c ON c.oid = m.relation
      JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_type y ON y.oid = c.reltype
      LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = -6
      WHERE m.publication = \(facts.oid)
      """)
    for row in members.rows.indices {
      guard let relation = members[row, "relation"].flatMap({ UInt32($0) }) else { continue }
      let partitions = members[row, "partitions"]?.split(separator: ",").compactMap { UInt32($0) } ?? []
      facts.members[relation] = member(members, row, partitions)
      facts.nameTransactions[relation] = members[row, "named"]
      facts.creations[relation] = members[row, "created"]
      facts.fileNodes[relation] = members[row, "file_node"].flatMap { UInt32($0) }
    }
    try readOthers(into: &facts, since: record)
    // Last: a commit is in the WAL before others see what it did.
    let place = try connection.query(
      """
      SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END AS lsn
      """)
    facts.seenAt = place[0, "lsn"].flatMap { LSN($0) } ?? .zero
  }

  /// What became of the tables that the publication had before and has no longer.
  private func readOthers(
    into facts: inout PublicationFacts, since record: PublicationRecord?
  ) throws(RelayError) {
    let gone = record?.members.keys.filter { facts.members[$0] == nil } ?? []
    guard !gone.isEmpty else { return }
    let others = try connection.query(
      """
      SELECT c.oid, n.nspname, c.relname, y.xmin AS named FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_type y ON y.oid = c.reltype
      WHERE c.oid IN (\(gone.map(String.init).joined(separator: ", ")))
      """)
    for row in others.rows.indices {
      guard let relation = others[row, "oid"].flatMap({ UInt32($0) }) else { continue }
      facts.others[relation] = name(others, row)
      facts.nameTransactions[relation] = others[row, "named"]
    }
  }

  /// What `PublicationCheck.isWhole` compares, and no more: cheap enough for every second.
  func publicationIdentity() throws(RelayError) -> PublicationFacts? {
    let result = try connection.query(
      """
      SELECT p.oid, p.xmin AS version, m.relation, m.membership, n.nspname, c.relname
      FROM pg_publication p LEFT JOIN ((\(memberships)) AS m JOIN pg_class c ON c.oid = m.relation
        JOIN pg_namespace n ON n.oid = c.relnamespace) ON m.publication = p.oid
      WHERE p.pubname = \(SQLText.literal(settings.publication))
      """)
    guard let oid = result[0, "oid"].flatMap({ UInt32($0) }) else { return nil }
    var facts = PublicationFacts(oid: oid, tables: [])
    facts.version = result[0, "version"] ?? ""
    for row in result.rows.indices {
      if let relation = result[row, "relation"].flatMap({ UInt32($0) }) {
        facts.members[relation] = member(result, row, [])
      }
    }
    return facts
  }

  private func member(_ result: SQLResult, _ row: Int, _ partitions: [UInt32]) -> PublicationRecord.Member {
    PublicationRecord.Member(
      membership: result[row, "membership"] ?? "", name: name(result, row), partitions: partitions)
  }

  private func name(_ result: SQLResult, _ row: Int) -> TableName {
    TableName(result[row, "nspname"] ?? "", result[row, "relname"] ?? "")
  }

  /// Each table that a publication names, and each that belongs to a schema which it names: by oid and transaction of
  /// the entry, so that one that was taken out and put back shows.
  private var memberships: String {
    "SELECT prpubid AS publication, prrelid AS relation, oid || '.' || xmin AS membership "
      + "FROM pg_publication_rel"
      + " UNION ALL SELECT n.pnpubid, c.oid, n.oid || '.' || n.xmin FROM pg_publication_namespace n "
      + "JOIN pg_class c ON c.relnamespace = n.pnnspid AND c.relkind IN ('r', 'p') WHERE NOT EXISTS "
      + "(SELECT FROM pg_publication_rel r WHERE r.prpubid = n.pnpubid AND r.prrelid = c.oid)"
  }
}
