// Owns: what happened to the publication and its tables between two checks, and whether rows were left out. Pure.
// Must not know: whether the publication suits as it is now, and how the facts were read.
import RelayCore

/// Between what was remembered and what is now. Tables are told apart by their OIDs, as the WAL does.
struct PublicationChange {
  let name: String
  let before: PublicationRecord
  let now: PublicationFacts
  /// `before` was seen moments ago, by a relay that runs: nothing else can have had a name in between.
  var isWatched = false

  /// What happened by which rows may have been left out; nil where none can have been.
  var gap: String? {
    if before.oid != now.oid { return "publication \"\(name)\" was dropped and created again" }
    if before.version != now.version { return "publication \"\(name)\" was altered" }
    if now.members.contains(where: { (before.members[$0.key] ?? $0.value).membership != $0.value.membership })
    {
      return
        "publication \"\(name)\" had a table or schema taken out and added again, or its columns or row filter "
        + "changed"
    }
    return now.members.sorted { $0.key < $1.key }.lazy.compactMap { replacement($0.key, $0.value) }.first
  }

  /// The gap as the error of a relay that runs.
  /// - Parameter since: where it was found whole last.
  func fault(since: LSN) -> RelayError? {
    gap.map { gap in
      RelayError(
        .publicationUnsuitable,
        "\(gap) while outboxd ran: rows that were committed between \(since) and \(now.seenAt) may have been left out",
        remedy: GapRemedy.recover)
    }
  }

  /// It has carried the same tables all the time, and under the same names. A table that is missing now is no gap as such,
  /// and its rows may be left out already; one that has joined begins behind everything that is proven.
  var isWhole: Bool {
    gap == nil && before.members.count == now.members.count
      && before.members.allSatisfy { relation, member in
        guard let other = now.members[relation] else { return false }
        return member.name == nil || member.name == other.name
      }
  }

  /// A new member that has the name of another table: its rows from before it joined are not in the stream.
  private func replacement(_ relation: UInt32, _ member: PublicationRecord.Member) -> String? {
    guard before.members[relation] == nil, let name = member.name,
      let former = before.members.first(where: { $0.value.name == name })
        ?? before.members.first(where: { $0.value.name == nil && now.members[$0.key] == nil }),
      // A member by its schema, which was published all the time.
      former.value.membership != member.membership, !wasSwapped(former.key, for: relation, member)
    else { return nil }
    return "table \(name.qualified) was replaced by another table (\(fate(of: former.key)))"
  }

  /// The one lost the name in the transaction in which the other took it and joined the publication.
  private func wasSwapped(
    _ former: UInt32, for relation: UInt32, _ member: PublicationRecord.Member
  ) -> Bool {
    guard let taken = now.nameTransactions[relation], member.membership.hasSuffix(".\(taken)") else {
      return false
    }
    if let lost = now.nameTransactions[former] { return taken == lost }
    // Of a table that was dropped nothing tells when that was. The other must have been created in the transaction in
    // which it joined: a change of its owner looks like taking the name. Nobody writes to a name that stands for no table, and a
    // third table, which had the name for a while and was never published, is seen by a relay that runs.
    return isWatched && now.creations[relation] == taken
  }

  /// The table that had the outbox's name, where another one, or none, has it now.
  func former(of mapping: OutboxMapping, now table: TableFacts?) -> UInt32? {
    let name = TableName(mapping.schema, mapping.table)
    return before.members.first { $0.value.name == name && $0.key != table?.oid }?.key
  }

  /// The name that it has now; nil: it was dropped.
  func newName(of relation: UInt32) -> TableName? { now.members[relation]?.name ?? now.others[relation] }

  func fate(of relation: UInt32) -> String {
    newName(of: relation).map { "the former one is now \($0.qualified)" } ?? "the former one was dropped"
  }
}

extension PublicationCheck {
  private var change: PublicationChange? {
    guard let publication, let before else { return nil }
    return PublicationChange(name: name, before: before, now: publication)
  }

  /// The configuration names a table that has another name now.
  func renamedFault(_ mapping: OutboxMapping) -> RelayError? {
    guard let change, let former = change.former(of: mapping, now: nil), let new = change.newName(of: former)
    else {
      return nil
    }
    let back =
      new.schema == mapping.schema
      ? "rename it back: ALTER TABLE \(new.sql) RENAME TO \(SQLText.identifier(mapping.table));"
      : "give it its former name again."
    let rows =
      change.now.members[former] != nil
      ? "No event is lost: rows of either name are sent then."
      : "The publication no longer publishes it: ALTER PUBLICATION \(SQLText.identifier(name)) ADD TABLE "
        + "\(new.sql); then outboxd recover publishes what was left out."
    return RelayError(
      .tableUnsuitable, "table \(mapping.qualifiedName) was renamed to \(new.qualified)",
      remedy: "Name \(new.qualified) under outboxes, or \(back) \(rows)")
  }

  /// The publication does not carry a table that has taken the place of one that it carried.
  func replacedFault(_ mapping: OutboxMapping) -> RelayError? {
    guard let change, let table = table(of: mapping),
      let former = change.former(of: mapping, now: table)
    else { return nil }
    let publication = SQLText.identifier(name)
    let statement =
      change.now.members[former] == nil
      ? "ADD TABLE \(SQLText.qualified(mapping.schema, mapping.table))" : "SET TABLE \(tableList)"
    return RelayError(
      .publicationUnsuitable,
      "table \(mapping.qualifiedName) was replaced by another table (\(change.fate(of: former))), and publication "
        + "\"\(name)\" does not publish it",
      remedy:
        "ALTER PUBLICATION \(publication) \(statement); then outboxd recover publishes what was left out.")
  }
}

extension StartDecision {
  /// The publication was touched since the journal saw it last: decoding sees it as it was at each place of the WAL.
  var publicationChangeFault: RelayError? {
    guard let reason = publicationGap else { return nil }
    let range = publicationDoubt.map { "between \($0) and" } ?? "up to"
    return RelayError(
      .publicationUnsuitable,
      "\(reason) since outboxd last relayed: rows that were committed \(range) the WAL's end at \(facts.walEnd) may have "
        + "been left out",
      remedy: GapRemedy.recover)
  }

  /// A relay that runs moves its checkpoint until it notices; the snapshot moves only where the publication is whole.
  var publicationDoubt: LSN? {
    guard let row = facts.journal.row else { return nil }
    return commonEnd.map { min($0, row.snapshotLSN ?? $0) }
  }

  private var publicationGap: String? {
    guard let before = facts.publicationRecord, let now = facts.publication else { return nil }
    return PublicationChange(name: settings.publication, before: before, now: now).gap
  }
}

extension ServerFacts {
  /// What the journal remembers, where that is of this cluster: another one's OIDs mean other tables.
  var publicationRecord: PublicationRecord? {
    guard let row = journal.row, row.checkpoint.systemIdentifier == systemIdentifier else { return nil }
    return row.publication
  }

  /// What it is to remember when everything before `checkpoint` is published.
  func publicationRecord(at checkpoint: LSN) -> PublicationRecord? {
    publication?.record(after: publicationRecord, passed: checkpoint, joined: joined)
  }

  /// Where a table begins that the journal does not know as a member yet. Up to the newest proven snapshot it was none, and
  /// neither was it when the slot began.
  private var joined: SlotStart? {
    guard publicationRecord != nil, let row = journal.row else { return nil }
    return .joining(after: row.snapshot, at: row.snapshotLSN) ?? slotStart
  }

  /// Where the slot began, as far as the journal knows.
  public var slotStart: SlotStart? {
    journal.row.flatMap { row in row.startLSN.map { SlotStart(lsn: $0, snapshot: row.startSnapshot) } }
  }

  /// The start of a table that joined the publication after the slot began: what was committed before it is not in the
  /// stream. Nil: it begins with the slot.
  func ownStart(of relation: UInt32) -> PublicationRecord.Start? {
    let record = publicationRecord(at: journal.row?.checkpoint.lsn ?? .zero)
    guard let own = record?.members[relation]?.start, own.by != own.lsn else { return nil }
    return own
  }
}

extension SlotStart {
  /// The start of a table that joined the publication after a proven snapshot, which lists no subtransactions: so what is
  /// proven to be committed lies below its lowest transaction.
  static func joining(after snapshot: String?, at lsn: LSN?) -> SlotStart? {
    guard let lsn, let lowest = snapshot.flatMap(HistoryRow.lowest) else { return nil }
    return SlotStart(lsn: lsn, snapshot: "\(lowest):\(lowest):")
  }
}
