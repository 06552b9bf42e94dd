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
          ?? reads.firstIndex(where: { $0.mapping.schema == name.schema && $0.mapping.table == name.name })
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
