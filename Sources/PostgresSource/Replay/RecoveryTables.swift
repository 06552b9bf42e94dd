// Owns: which tables a recovery or a backfill reads: those of today, and those that had rows of the outboxes before.
// Must not know: how rows are read, what is done with them.
public import RelayCore

extension ServerFacts {
  /// For each outbox its table of today, its partitions of today and of the record, and what had its name before: any of
  /// them may have been detached or swapped away with rows that are undelivered.
  public func reads(_ mappings: [OutboxMapping]) -> [TableRead] {
    var reads = mappings.map { TableRead($0) }
    for index in reads.indices {
      reads[index].oid = table(mappings[index].schema, mappings[index].table)?.oid
    }
    let heads = Set(reads.compactMap(\.oid))
    func add(_ relations: [UInt32], _ head: UInt32?, _ name: TableName) {
      // An outbox that is configured no more is read no more.
      guard
        let index = reads.firstIndex(where: { $0.oid == head && head != nil })
          ?? reads.firstIndex(where: { $0.mapping.origin == name.origin })
      else { return }
      for relation in relations where !heads.contains(relation) { reads[index].others[relation] = name }
    }
    for members in [publication?.members, publicationRecord?.members] {
      for (relation, member) in members ?? [:] {
        guard let name = member.name else { continue }
        add([relation] + member.partitions, relation, name)
      }
    }
    for (relation, former) in publicationRecord?.former ?? [:] { add([relation], nil, former.name) }
    return reads
  }
}

extension ServerFacts {
  /// As `reads`, with the starts of tables that joined the publication after the slot began.
  public func backfillReads(_ mappings: [OutboxMapping]) -> [TableRead] {
    reads(mappings).map { read in
      var read = read
      guard let oid = read.oid, let start = ownStart(of: oid) else { return read }
      for relation in [oid] + (publication?.members[oid]?.partitions ?? []) {
        read.starts[relation] = SlotStart(lsn: start.lsn, snapshot: start.snapshot)
      }
      return read
    }
  }
}

extension ServerFacts {
  /// The tables that may be read as those of an outbox by what the catalog and the journal say: those that have the names
  /// of `mappings`, the publication's, with their partitions, and its former ones.
  func own(_ mappings: [OutboxMapping]) -> Set<UInt32> {
    var own = Set(mappings.compactMap { table($0.schema, $0.table)?.oid })
    let published = publication?.isOwnerTrusted == true ? publication?.members : nil
    for members in [published, publicationRecord?.members] {
      for (relation, member) in members ?? [:] { own.formUnion([relation] + member.partitions) }
    }
    return own.union(publicationRecord?.former.keys.map(\.self) ?? [])
  }
}

extension PostgresSource {
  /// For tables that a row of `outboxd.job` names: whoever can write there must not decide which tables are read.
  /// - Throws: `failed` where a table that exists has no part in an outbox; what `inspect` throws.
  public static func requireOwn(
    _ reads: [TableRead], settings: PostgresSettings, stop: StopSignal
  ) throws(RelayError) {
    let facts = try inspect(settings: settings, mappings: reads.map(\.mapping), stop: stop)
    let own = facts.own(reads.map(\.mapping))
    let foreign = reads.flatMap { [$0.oid].compactMap(\.self) + $0.others.keys }.filter { !own.contains($0) }
    guard !foreign.isEmpty else { return }
    let connection = try SQLConnection(settings, applicationName: "outboxd job", stop: stop)
    // Of a partition that was dropped nothing is read.
    let result = try connection.query(
      """
      SELECT c.oid, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.oid IN (\(foreign.map(String.init).joined(separator: ", "))) ORDER BY c.oid LIMIT 1
      """)
    guard !result.rows.isEmpty, let oid = result[0, "oid"] else { return }
    let name = QualifiedName.text(result[0, "nspname"] ?? "", result[0, "relname"] ?? "")
    throw RelayError(
      .failed,
      "the job's row in outboxd.job names the table \(name) (OID \(oid)), which neither has the name of an outbox, nor is "
        + "or was, by the journal's record, in publication \"\(settings.publication)\"; nothing was read",
      remedy: "Start the job again, without --resume.")
  }
}

/// A table that a recovery reads, in words.
public struct RecoveredTable: Equatable, Sendable {
  public var name: String
  /// The outbox that it had rows of, where it is not that outbox's table now.
  public var outbox: String?

  public init(name: String, outbox: String? = nil) {
    self.name = name
    self.outbox = outbox
  }
}

extension Recovery {
  /// Looks the tables up by their OIDs.
  static func tables(
    _ reads: [TableRead], _ settings: PostgresSettings, _ stop: StopSignal
  ) throws(RelayError) -> [RecoveredTable] {
    let connection = try SQLConnection.reading(settings, applicationName: "outboxd recover", stop: stop)
    let catalog = TableCatalog(connection: connection, settings: settings, publication: nil)
    return try catalog.shapes(reads).map { shape in
      RecoveredTable(name: QualifiedName.text(shape.schema, shape.table), outbox: shape.formerName?.qualified)
    }
  }
}
