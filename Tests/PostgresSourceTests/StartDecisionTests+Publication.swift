// Owns: every observation of tables and publication at the start, and what it must lead to.
// Must not know: how the facts are read.
import RelayCore
import Testing

@testable import PostgresSource

extension StartDecisionTests {
  @Test func refusesTablesWithoutInsertsInTheWAL() {
    expect(goodFacts { $0.tables = [] }, refusedAs: .tableUnsuitable, saying: ["public.outbox"])
    expect(goodFacts { $0.tables[0].kind = "v" }, refusedAs: .tableUnsuitable)
    expect(goodFacts { $0.tables[0].persistence = "u" }, refusedAs: .tableUnsuitable, remedy: "SET LOGGED")
  }

  @Test func refusesAPublicationThatLeavesRowsOut() {
    expect(goodFacts { $0.publication = nil }, refusedAs: .publicationMissing, remedy: "CREATE PUBLICATION")
    expect(
      goodFacts { $0.publication?.tables = [] }, refusedAs: .publicationUnsuitable,
      remedy: "ALTER PUBLICATION \"outboxd\" ADD TABLE \"public\".\"outbox\"")
    expect(
      goodFacts { $0.publication?.publishesInserts = false }, refusedAs: .publicationUnsuitable,
      saying: ["inserts"])
    expect(
      goodFacts { $0.publication?.tables[0].hasRowFilter = true }, refusedAs: .publicationUnsuitable,
      saying: ["row filter"])
  }

  @Test func refusesAPublicationThatChangedWhileStopped() {
    func facts(
      oid: UInt32 = 5, version: String = "700",
      members: [UInt32: PublicationRecord.Member] = [16_400: .init(membership: "16500.700")]
    ) -> ServerFacts {
      goodFacts {
        var before = PublicationRecord(oid: 5, version: "700")
        before.members = [16_400: .init(membership: "16500.700")]
        var row = JournalRow(checkpoint("0/200"))
        row.publication = before
        $0.journal = .row(row)
        $0.publication?.oid = oid
        $0.publication?.version = version
        $0.publication?.members = members
      }
    }
    #expect(decide(facts()) == .success(.start(lsn("0/200"))))
    // A new member has left nothing out that was published before.
    #expect(
      decide(
        facts(members: [16_400: .init(membership: "16500.700"), 16_401: .init(membership: "16501.710")]))
        == .success(.start(lsn("0/200"))))
    for (changed, word) in [
      (facts(oid: 6), "created again"), (facts(version: "705"), "altered"),
      (facts(members: [16_400: .init(membership: "16502.720")]), "taken out"),
    ] {
      expect(
        changed, refusedAs: .publicationUnsuitable, saying: [word, "0/200", "0/1000"],
        remedy: "outboxd recover")
    }
  }

  @Test func refusesAPublicationOfTablesThatNoOutboxNames() {
    expect(
      goodFacts { $0.publication?.tables.append(.init(schema: "public", name: "orders")) },
      refusedAs: .publicationUnsuitable, saying: ["public.orders"], remedy: "DROP TABLE \"public\".\"orders\""
    )
  }

  @Test func partitionedTablesMustBePublishedUnderTheirOwnName() {
    let byLeaf = goodFacts {
      $0.tables[0].kind = "p"
      $0.publication?.viaRoot = false
      $0.publication?.tables = [.init(schema: "public", name: "outbox_1")]
    }
    expect(byLeaf, refusedAs: .publicationUnsuitable, remedy: "publish_via_partition_root = true")
    let byRoot = goodFacts { $0.tables[0].kind = "p" }
    #expect(decide(byRoot) == .success(.start(lsn("0/200"))))
    // For a plain table the flag is of no consequence.
    #expect(decide(goodFacts { $0.publication?.viaRoot = false }) == .success(.start(lsn("0/200"))))
  }

  @Test func whatIsOnlyUnfortunateIsAFinding() {
    let facts = goodFacts {
      $0.publication?.publishesDeletes = true
      $0.publication?.tables[0].hasColumnList = true
      $0.tables[0].isReadable = false
      $0.journal = .absent
      $0.slot?.walStatus = "unreserved"
    }
    let decision = StartDecision(facts: facts, settings: PostgresSettings(), mappings: [OutboxMapping()])
    #expect(decision.faults.isEmpty)
    #expect(decision.findings.count == 4)
  }
}
