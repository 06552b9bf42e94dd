// Owns: whether the publication carries exactly the rows of the outbox tables. Pure.
// Must not know: slots and checkpoints, and how the facts were read.
public import RelayCore

/// Judged at the start by `StartDecision`, and again and again by the watch while the relay runs.
struct PublicationCheck {
  let name: String
  let publication: PublicationFacts?
  let tables: [TableFacts]
  let mappings: [OutboxMapping]
  /// What was remembered of it; nil: nothing.
  var before: PublicationRecord?
  /// Where the stream would go on, and the end of the WAL: between them rows may have been left out.
  var range: (from: LSN, through: LSN)?

  var fault: RelayError? {
    guard let publication else {
      return RelayError(
        .publicationMissing, "publication \"\(name)\" does not exist",
        remedy: "CREATE PUBLICATION \(quoted) FOR TABLE \(tableList) WITH (publish = 'insert', "
          + "publish_via_partition_root = true); If it existed before, what was committed without it was left out: "
          + "outboxd recover publishes it.")
    }
    for mapping in mappings where table(of: mapping) == nil {
      if let fault = renamedFault(mapping) { return fault }
    }
    return flagFault(publication) ?? missingTableFault(publication) ?? extraTableFault(publication)
      ?? filterFault(publication) ?? columnFault(publication)
  }

  /// The tables themselves. Columns are the row plan's affair.
  var tableFault: RelayError? {
    for mapping in mappings {
      guard let table = table(of: mapping) else {
        if let fault = renamedFault(mapping) { return fault }
        return RelayError(
          .tableUnsuitable, "there is no table \(mapping.qualifiedName)",
          remedy: "Create it (sql/01_outbox.sql), or correct the name under outboxes.")
      }
      guard table.kind == "r" || table.kind == "p" else {
        return RelayError(
          .tableUnsuitable, "\(mapping.qualifiedName) is not a table, and only tables have inserts to read",
          remedy: "Name the table itself under outboxes.")
      }
      guard !table.isPartition else {
        return RelayError(
          .tableUnsuitable,
          "\(mapping.qualifiedName) is a partition: its rows come under the name of the partitioned table",
          remedy: "Name the partitioned table under outboxes in its place.")
      }
      guard table.persistence == "p" else {
        return RelayError(
          .tableUnsuitable, "\(mapping.qualifiedName) is unlogged or temporary: its rows are not in the WAL",
          remedy: "ALTER TABLE \(SQLText.qualified(mapping.schema, mapping.table)) SET LOGGED;")
      }
      if table.columns.contains(where: { $0.typeOID != 0 }),
        let fault = Self.mappingFault(mapping, table.relation)
      {
        return fault
      }
    }
    return nil
  }

  /// What may stay as it is.
  var findings: [Finding] {
    guard let publication else { return [] }
    var findings: [Finding] = []
    let others = [
      (publication.publishesUpdates, "update"), (publication.publishesDeletes, "delete"),
      (publication.publishesTruncates, "truncate"),
    ].filter(\.0).map(\.1)
    if !others.isEmpty {
      findings.append(
        Finding(
          message: "publication \"\(name)\" also publishes \(others.joined(separator: ", ")), which are not "
            + "events and cost traffic",
          remedy:
            "Stop outboxd; ALTER PUBLICATION \(quoted) SET (publish = 'insert'); outboxd recover; outboxd run."
        ))
    }
    findings += columnFindings
    for table in tables where !table.isReadable {
      findings.append(
        Finding(
          message:
            "the role may not read \(QualifiedName.text(table.schema, table.name)): streaming does not need it, replay, "
            + "backfill and recover do",
          remedy: "GRANT USAGE ON SCHEMA \(SQLText.identifier(table.schema)) TO ...; GRANT SELECT ON "
            + "\(SQLText.qualified(table.schema, table.name)) TO ...;"))
    }
    return findings
  }

  private var quoted: String { SQLText.identifier(name) }

  var tableList: String {
    mappings.map { SQLText.qualified($0.schema, $0.table) }.joined(separator: ", ")
  }

  func table(of mapping: OutboxMapping) -> TableFacts? {
    tables.first { $0.origin == mapping.origin }
  }

  private func flagFault(_ publication: PublicationFacts) -> RelayError? {
    if !publication.publishesInserts {
      return RelayError(
        .publicationUnsuitable, "publication \"\(name)\" does not publish inserts",
        remedy: "ALTER PUBLICATION \(quoted) SET (publish = 'insert'); then outboxd recover publishes "
          + "the rows inserted since.")
    }
    let partitioned = mappings.first { table(of: $0)?.kind == "p" }
    if !publication.viaRoot, let partitioned {
      return RelayError(
        .publicationUnsuitable,
        "publication \"\(name)\" publishes the rows of the partitioned table \(partitioned.qualifiedName) "
          + "under the names of its partitions",
        remedy: "ALTER PUBLICATION \(quoted) SET (publish_via_partition_root = true);")
    }
    return nil
  }

  private func missingTableFault(_ publication: PublicationFacts) -> RelayError? {
    let missing = mappings.filter { mapping in
      !publication.tables.contains { $0.origin == mapping.origin }
    }
    guard let first = missing.first else { return nil }
    for mapping in missing {
      if let fault = replacedFault(mapping) { return fault }
    }
    let names = missing.map(\.qualifiedName).joined(separator: ", ")
    let wasMember = missing.contains { mapping in
      before?.members.values.contains { $0.name == TableName(mapping.schema, mapping.table) } ?? false
    }
    return RelayError(
      .publicationUnsuitable, "publication \"\(name)\" does not publish \(names)",
      remedy: wasMember
        ? "ALTER PUBLICATION \(quoted) ADD TABLE \(SQLText.qualified(first.schema, first.table)); then outboxd recover "
          + "publishes what was left out."
        : "outboxd init --apply adds it (ALTER PUBLICATION \(quoted) ADD TABLE "
          + "\(SQLText.qualified(first.schema, first.table));), and outboxd run continues; rows from before that are published "
          + "by outboxd backfill --outbox \(first.qualifiedName).")
  }

  private func extraTableFault(_ publication: PublicationFacts) -> RelayError? {
    let extra = publication.tables.filter { mappings.mapping(of: $0.origin) == nil }
    guard let first = extra.first else { return nil }
    let shown = extra.prefix(3).map(\.qualifiedName).joined(separator: ", ")
    let more = extra.count > 3 ? " and \(extra.count - 3) more" : ""
    let remedy =
      publication.isForAllTables
      ? "DROP PUBLICATION \(quoted); CREATE PUBLICATION \(quoted) FOR TABLE \(tableList) WITH (publish = "
        + "'insert', publish_via_partition_root = true); in one transaction, with outboxd and the writers "
        + "stopped; or use a publication of another name."
      : "Add the table under outboxes, and start outboxd again, or: ALTER PUBLICATION \(quoted) DROP TABLE "
        + "\(SQLText.qualified(first.schema, first.name));"
    return RelayError(
      .publicationUnsuitable, "publication \"\(name)\" publishes \(shown)\(more), which no outbox names",
      remedy: remedy)
  }

  /// What the relay would say at the table's first row.
  static func mappingFault(_ mapping: OutboxMapping, _ relation: Relation) -> RelayError? {
    do throws(RelayError) {
      _ = try MappingCheck.inspect(mapping, relation: relation, database: "database")
      return nil
    } catch {
      return error
    }
  }

  private var doubt: String {
    range.map { "; what was committed from \($0.from) to \($0.through) is in doubt" } ?? ""
  }

  private func filterFault(_ publication: PublicationFacts) -> RelayError? {
    guard let table = publication.tables.first(where: \.hasRowFilter) else { return nil }
    return RelayError(
      .publicationUnsuitable,
      "publication \"\(name)\" has a row filter on \(table.qualifiedName): the rows that it leaves out are not "
        + "published" + doubt,
      remedy:
        "ALTER PUBLICATION \(quoted) SET TABLE \(tableList); then outboxd recover publishes from the tables what "
        + "the filter has left out since the checkpoint. Where there is no checkpoint yet: outboxd backfill.")
  }
}

extension PublicationFacts {
  /// What the owner could do that he could not do by himself. Nil: nothing.
  public func ownerFinding(of name: String) -> Finding? {
    guard !isOwnerTrusted else { return nil }
    return Finding(
      message:
        "publication \"\(name)\" belongs to role \"\(owner)\", which does not own all of its tables and could take "
        + "them out: outboxd would halt, or have to recover",
      remedy: "ALTER PUBLICATION \(SQLText.identifier(name)) OWNER TO ...; (a superuser, or the relay's role)"
    )
  }
}

extension StartDecision {
  private var publicationCheck: PublicationCheck {
    PublicationCheck(
      name: settings.publication, publication: facts.publication, tables: facts.tables, mappings: mappings,
      before: facts.publicationRecord,
      range: (checkpoint == nil ? facts.slot?.confirmedFlushLSN : commonEnd).map { ($0, facts.walEnd) })
  }

  var tableFault: RelayError? { publicationCheck.tableFault }
  var publicationFault: RelayError? { publicationCheck.fault }

  /// What does not stop the relay, and ought to be known.
  public var findings: [Finding] {
    var findings =
      placeFindings + publicationCheck.findings + forecast + facts.columnAdvice(mappings).flatMap(\.findings)
    if facts.journal == .absent || facts.journal == .off {
      findings.append(
        Finding(
          message:
            "there is no journal (postgres.journal is \(settings.journal.rawValue)): outboxd cannot notice that the slot was moved or created again, "
            + "and may send events again after a restart of Postgres",
          remedy:
            "Run what outboxd init prints, or sql/05_journal.sql, with postgres.journal: auto or required."))
    }
    if let status = facts.slot?.walStatus, status == "unreserved" {
      findings.append(
        Finding(
          message: "slot \"\(settings.slot)\" is about to be lost: its WAL is no longer reserved",
          remedy: "Raise max_slot_wal_keep_size, and let the relay catch up."))
    }
    return findings
  }
}
