// Owns: what is a gap and what is none when tables are replaced, swapped, renamed and moved. Pure.
import RelayCore
import Testing

@testable import PostgresSource

private let outbox = TableName("public", "outbox")
private let former: UInt32 = 16_400
private let newer: UInt32 = 16_500

/// `former` is the outbox, a member since transaction 700.
private func record(membership: String = "16450.700", name: TableName? = outbox) -> PublicationRecord {
  var record = PublicationRecord(oid: 5, version: "690")
  record.members[former] = .init(membership: membership, name: name)
  return record
}

private func facts(
  _ members: [UInt32: PublicationRecord.Member], others: [UInt32: TableName] = [:],
  named transactions: [UInt32: String] = [:]
) -> PublicationFacts {
  var facts = PublicationFacts(
    oid: 5,
    tables: members.values.compactMap(\.name).map { .init(schema: $0.schema, name: $0.name) })
  facts.version = "690"
  facts.members = members
  facts.others = others
  facts.nameTransactions = transactions
  facts.seenAt = LSN(0x900)
  return facts
}

private func gap(_ before: PublicationRecord, _ now: PublicationFacts, isWatched: Bool = false) -> String? {
  PublicationChange(name: "outboxd", before: before, now: now, isWatched: isWatched).gap
}

private func isWhole(_ now: PublicationFacts, since before: PublicationRecord) -> Bool {
  PublicationChange(name: "outboxd", before: before, now: now).isWhole
}

@Suite struct PublicationChangeTests {
  @Test func aTableThatWasDroppedAndCreatedAgainIsAGap() throws {
    let now = facts([newer: .init(membership: "16550.720", name: outbox)], named: [newer: "715"])
    #expect(
      gap(record(), now) == "table public.outbox was replaced by another table (the former one was dropped)")
    #expect(!isWhole(now, since: record()))
    #expect(gap(record(), now, isWatched: true) != nil)
    // Also in one transaction: that the former one was the outbox until then, only a relay that runs can tell.
    var together = facts([newer: .init(membership: "16550.720", name: outbox)], named: [newer: "720"])
    together.creations[newer] = "715"
    // Its owner was changed then.
    #expect(gap(record(), together, isWatched: true) != nil)
    together.creations[newer] = "720"
    #expect(gap(record(), together) != nil)
    #expect(gap(record(), together, isWatched: true) == nil)
  }

  @Test func aSwapIsNoneWhereTheNewTableJoinsInTheSameTransaction() {
    let swapped = facts(
      [newer: .init(membership: "16550.720", name: outbox)],
      others: [former: TableName("public", "outbox_old")],
      named: [newer: "720", former: "720"])
    #expect(gap(record(), swapped) == nil)
    // It proves nothing about what is visible, before it has been taken note of.
    #expect(!isWhole(swapped, since: record()))
    #expect(isWhole(swapped, since: swapped.record(after: record(), passed: .zero)))
    for (joined, taken, lost) in [("721", "720", "720"), ("720", "719", "720"), ("720", "720", "719")] {
      let now = facts(
        [newer: .init(membership: "16550.\(joined)", name: outbox)],
        others: [former: TableName("public", "outbox_old")], named: [newer: taken, former: lost])
      #expect(gap(record(), now)?.contains("the former one is now public.outbox_old") == true)
    }
  }

  @Test func aTableThatIsAMemberByItsSchemaWasPublishedFromTheBeginning() {
    let now = facts([newer: .init(membership: "77.600", name: outbox)], named: [newer: "720"])
    #expect(gap(record(membership: "77.600"), now) == nil)
    #expect(gap(record(), now) != nil)
  }

  @Test func twoMembersThatChangeNamesHaveLostNothing() {
    var before = record()
    before.members[newer] = .init(membership: "16451.700", name: TableName("public", "other"))
    let now = facts([
      former: .init(membership: "16450.700", name: TableName("public", "other")),
      newer: .init(membership: "16451.700", name: outbox),
    ])
    #expect(gap(before, now) == nil)
    // Yet rows of a third table may have been written under a name meanwhile.
    #expect(!isWhole(now, since: before))
  }

  @Test func aRenamedOrMovedTableIsNoGap() {
    for name in [TableName("public", "outbox_events"), TableName("sales", "outbox")] {
      #expect(gap(record(), facts([former: .init(membership: "16450.700", name: name)])) == nil)
    }
    #expect(
      gap(
        record(),
        facts([
          former: .init(membership: "16450.700", name: outbox),
          newer: .init(membership: "1.710", name: TableName("public", "new")),
        ]))
        == nil)
  }

  @Test func aRecordOfAnEarlierVersionIsReadAndDoubted() throws {
    let old = try #require(PublicationRecord("5 690 16400:16450.700"))
    #expect(old == record(name: nil))
    #expect(gap(old, facts([former: .init(membership: "16450.700", name: outbox)])) == nil)
    #expect(isWhole(facts([former: .init(membership: "16450.700", name: outbox)]), since: old))
    // Of what name the one that is gone was, it does not say.
    #expect(gap(old, facts([newer: .init(membership: "16550.720", name: outbox)])) != nil)
  }

  @Test func aPublicationThatLacksATableProvesNothing() {
    var before = record(name: nil)
    before.members[newer] = .init(membership: "16501.700")
    let all = facts(before.members)
    #expect(isWhole(all, since: before))
    var now = all
    now.members[16_402] = .init(membership: "16502.710")
    // It began later than what is proven.
    #expect(!isWhole(now, since: before))
    #expect(gap(before, now) == nil)
    now.members[newer] = nil
    #expect(gap(before, now) == nil)
    #expect(!isWhole(now, since: before))
  }

  @Test func aRecordSurvivesEveryName() throws {
    var record = record()
    let names = [
      "outbox", "Sales Orders", "a.b:c,d%e-f", "\"quoted\"", "Ereignisse_ä", "new\nline", "%41", "🐘",
    ]
    for (index, name) in names.enumerated() {
      let oid = UInt32(20_000 + index)
      record.members[oid] = .init(
        membership: "\(oid).\(index)", name: TableName(name, name),
        partitions: index % 2 == 0 ? [oid + 100, oid + 101] : [])
      record.former[oid + 50] = .init(name: TableName(name, "x"), goneBy: LSN(UInt64.max - UInt64(index)))
    }
    #expect(PublicationRecord(record.text) == record)
    #expect(PublicationRecord("") == nil)
    for broken in ["5", "x 690", "5 690 x:y", "5 690 16400", "5 690 -16400:0/1", "5 690 -16400:x:a.b"] {
      #expect(PublicationRecord(broken) == nil, "\(broken)")
    }
  }

  /// What the checkpoint has passed is forgotten, and nothing before.
  @Test func whatIsGoneStaysOnRecordUntilTheCheckpointHasPassedIt() {
    var before = record()
    before.members[newer] = .init(
      membership: "2.700", name: TableName("public", "parts"), partitions: [1, 2, 3])
    let now = facts([
      newer: .init(membership: "2.700", name: TableName("public", "parts"), partitions: [3, 4])
    ])
    let noted = now.record(after: before, passed: LSN(0x100))
    #expect(noted.former.keys.sorted() == [1, 2, former])
    #expect(noted.former[former] == .init(name: outbox, goneBy: LSN(0x900)))
    #expect(noted.former[1]?.name == TableName("public", "parts"))
    var later = now
    later.seenAt = LSN(0xA00)
    #expect(later.record(after: noted, passed: LSN(0x8FF)) == noted)
    #expect(later.record(after: noted, passed: LSN(0x900)).former.isEmpty)
    // Attached again.
    later.members[newer]?.partitions = [1, 3, 4]
    #expect(later.record(after: noted, passed: LSN(0x100)).former.keys.sorted() == [2, former])
  }

  // What is said of it.

  private func check(_ now: PublicationFacts, _ tables: [TableFacts]) -> PublicationCheck {
    PublicationCheck(
      name: "outboxd", publication: now, tables: tables, mappings: [OutboxMapping()], before: record())
  }

  private func table(_ oid: UInt32) -> TableFacts {
    var table = TableFacts(schema: "public", name: "outbox")
    table.oid = oid
    return table
  }

  @Test func aRenamedTableIsNamedByBothItsNames() throws {
    for (name, back) in [
      (
        TableName("public", "outbox_events"), "ALTER TABLE \"public\".\"outbox_events\" RENAME TO \"outbox\";"
      ),
      (TableName("sales", "outbox"), "give it its former name again"),
    ] {
      let check = check(facts([former: .init(membership: "16450.700", name: name)]), [])
      for fault in [check.fault, check.tableFault] {
        let fault = try #require(fault)
        #expect(fault.kind == .tableUnsuitable)
        #expect(fault.message == "table public.outbox was renamed to \(name.qualified)")
        let remedy = try #require(fault.remedy)
        #expect(remedy.contains("Name \(name.qualified) under outboxes") && remedy.contains(back))
        #expect(remedy.contains("No event is lost") && !remedy.contains("ADD TABLE"))
      }
    }
  }

  @Test func aTableInThePlaceOfAnotherIsAddedAndRecovered() throws {
    let dropped = try #require(check(facts([:]), [table(newer)]).fault)
    #expect(dropped.message.contains("replaced by another table (the former one was dropped)"))
    #expect(dropped.remedy?.contains("ADD TABLE \"public\".\"outbox\"; then outboxd recover") == true)
    let old = TableName("public", "outbox_old")
    let swapped = try #require(
      check(facts([former: .init(membership: "16450.700", name: old)]), [table(newer)]).fault)
    #expect(swapped.message.contains("the former one is now public.outbox_old"))
    #expect(swapped.remedy?.contains("SET TABLE \"public\".\"outbox\"; then outboxd recover") == true)
    // The same table, taken out.
    let taken = try #require(check(facts([:], others: [former: outbox]), [table(former)]).fault)
    #expect(taken.message == "publication \"outboxd\" does not publish public.outbox")
  }

  // What is read.

  private func serverFacts(_ now: PublicationFacts, _ tables: [TableFacts], _ record: PublicationRecord)
    -> ServerFacts
  {
    var row = JournalRow(Checkpoint(lsn: LSN(0x200), systemIdentifier: 1, timeline: 1))
    row.publication = record
    return ServerFacts(
      serverVersion: 180_000, systemIdentifier: 1, timeline: 1, walEnd: LSN(0x1000), database: "d",
      publication: now, tables: tables, journal: .row(row))
  }

  @Test func aRecoveryReadsTheTableOfTodayAndThoseOfTheRecord() {
    var before = record()
    before.members[former]?.partitions = [1, 2]
    before.former[9] = .init(name: outbox, goneBy: LSN(0x300))
    before.former[10] = .init(name: TableName("public", "no outbox any more"), goneBy: LSN(0x300))
    let now = facts([newer: .init(membership: "16550.720", name: outbox, partitions: [2, 3])])
    let reads = serverFacts(now, [table(newer)], before).reads([OutboxMapping()])
    #expect(reads.map(\.oid) == [newer])
    #expect(reads.first?.others == [1: outbox, 2: outbox, 3: outbox, 9: outbox, former: outbox])
  }

  @Test func onlyTablesOfThePublicationAndOfItsRecordAreAnOutboxsOwn() {
    var before = record()
    before.members[former]?.partitions = [1, 2]
    before.former[9] = .init(name: outbox, goneBy: LSN(0x300))
    var now = facts([newer: .init(membership: "16550.720", name: outbox, partitions: [2, 3])])
    let secret: UInt32 = 77
    let foreign = TableName("billing", "secret")
    #expect(serverFacts(now, [table(newer)], before).own([OutboxMapping()]) == [1, 2, 3, 9, former, newer])
    now.members[secret] = .init(membership: "1.1", name: foreign)
    #expect(serverFacts(now, [table(newer)], before).own([OutboxMapping()]).contains(secret))
    now.isOwnerTrusted = false
    #expect(serverFacts(now, [table(newer)], before).own([OutboxMapping()]) == [1, 2, 9, former, newer])
    // Named by nothing but the outbox of the configuration.
    #expect(serverFacts(facts([:]), [table(newer)], before).own([OutboxMapping()]).contains(newer))
  }

  @Test func aRenamedTableIsReadOnceUnderItsNewName() {
    let new = TableName("public", "outbox_events")
    var before = record()
    before.members[former]?.partitions = [1]
    let now = facts([former: .init(membership: "16450.700", name: new, partitions: [1])])
    var table = table(former)
    table.name = new.name
    let reads = serverFacts(now, [table], before).reads([OutboxMapping(table: new.name)])
    #expect(reads.map(\.oid) == [former])
    #expect(reads.first?.others == [1: outbox])
  }

  /// Another cluster's OIDs mean other tables.
  @Test func theRecordOfAnotherClusterMeansNothing() {
    var facts = serverFacts(
      facts([newer: .init(membership: "16550.720", name: outbox)]), [table(newer)], record())
    facts.systemIdentifier = 2
    #expect(facts.publicationRecord == nil)
    #expect(facts.reads([OutboxMapping()]).first?.others.isEmpty == true)
  }
}
