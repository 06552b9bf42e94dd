// Owns: what a recovery and a backfill decide for each observation.
import RelayCore
import Testing

@testable import PostgresSource

private func lsn(_ text: String) -> LSN { LSN(text)! }

/// Slot at 0/100, checkpoint 0/200 with a snapshot of transaction 50, slot's start at 0/80 with one of 30.
private func facts(_ change: (inout ServerFacts, inout JournalRow) -> Void = { _, _ in }) -> ServerFacts {
  var table = TableFacts(schema: "public", name: "outbox")
  table.columns = [TableFacts.Column(name: "id", type: "uuid", isNullable: false)]
  var publication = PublicationFacts(oid: 5, tables: [.init(schema: "public", name: "outbox")])
  publication.version = "7"
  var row = JournalRow(Checkpoint(lsn: lsn("0/200"), systemIdentifier: 1, timeline: 1))
  row.snapshot = "50:60:55"
  row.publication = publication.record(after: nil, passed: .zero)
  row.startLSN = lsn("0/80")
  row.startSnapshot = "30:30:"
  var facts = ServerFacts(
    serverVersion: 150_020, systemIdentifier: 1, timeline: 1, walEnd: lsn("0/1000"), database: "app",
    slot: SlotFacts(database: "app", confirmedFlushLSN: lsn("0/100")), publication: publication,
    tables: [table])
  change(&facts, &row)
  if facts.journal == .off { facts.journal = .row(row) }
  return facts
}

private func plan(
  _ facts: ServerFacts, wish: RecoveryWish = .repair, anchor: SlotFacts? = nil, earlier: String? = nil,
  streamFault: RelayError? = nil
) throws(RelayError) -> RecoveryPlan {
  try RecoveryPlan.decide(
    facts, settings: PostgresSettings(), mappings: [OutboxMapping()], wish: wish, anchor: anchor,
    earlier: earlier, streamFault: streamFault)
}

private func refusal(_ facts: ServerFacts, streamFault: RelayError? = nil) -> RelayError.Kind? {
  do throws(RelayError) {
    _ = try plan(facts, streamFault: streamFault)
    return nil
  } catch {
    return error.kind
  }
}

@Suite struct RecoveryPlanTests {
  @Test func nothingIsDoneWhereNothingIsWrong() throws {
    #expect(try plan(facts()).action == .nothing)
    #expect(try plan(facts(), wish: .adopt).action == .nothing)
    #expect(try plan(facts(), wish: .tables).action == .tables(lowestTransaction: 50, .keep))
  }

  @Test func whatTheSlotSkippedComesFromTheAnchorWhereItHasAllOfIt() throws {
    var anchor = SlotFacts(database: "app", confirmedFlushLSN: lsn("0/200"))
    anchor.restartLSN = lsn("0/90")
    let moved = facts { facts, _ in facts.slot?.confirmedFlushLSN = lsn("0/300") }
    let found = try plan(moved, anchor: anchor)
    #expect(found.action == .wal(from: lsn("0/200"), .keep) && found.through == lsn("0/300"))
    let missing = facts { facts, _ in facts.slot = nil }
    #expect(try plan(missing, anchor: anchor).action == .wal(from: lsn("0/200"), .create))
    let lost = facts { facts, _ in facts.slot?.walStatus = "lost" }
    #expect(try plan(lost, anchor: anchor).action == .wal(from: lsn("0/200"), .replace))
    // Asked for the tables, or with an anchor that begins too late, is lost, or sees another publication.
    #expect(try plan(moved, wish: .tables, anchor: anchor).action == .tables(lowestTransaction: 50, .keep))
    var late = anchor
    late.confirmedFlushLSN = lsn("0/201")
    #expect(try plan(moved, anchor: late).action == .tables(lowestTransaction: 50, .keep))
    var gone = anchor
    gone.walStatus = "lost"
    #expect(try plan(moved, anchor: gone).action == .tables(lowestTransaction: 50, .keep))
    let changed = facts { facts, _ in
      facts.slot?.confirmedFlushLSN = lsn("0/300")
      facts.publication?.version = "8"
    }
    #expect(try plan(changed, anchor: anchor).action == .tables(lowestTransaction: 50, .keep))
  }

  @Test func whatTheSlotSkippedComesFromTheTables() throws {
    let missing = try plan(facts { facts, _ in facts.slot = nil })
    #expect(missing.action == .tables(lowestTransaction: 50, .create))
    #expect(missing.from == lsn("0/200") && missing.through == lsn("0/1000"))
    #expect(missing.fault?.kind == .slotMissing && missing.keepsSnapshot)
    let lost = facts { facts, _ in facts.slot?.walStatus = "lost" }
    #expect(try plan(lost).action == .tables(lowestTransaction: 50, .replace))
    let moved = facts { facts, _ in facts.slot?.confirmedFlushLSN = lsn("0/300") }
    #expect(try plan(moved).action == .tables(lowestTransaction: 50, .keep))
    // What the slot still has may have been deleted from the tables.
    #expect(try plan(moved).place == lsn("0/300"))
    #expect(missing.place == nil)
    #expect(try plan(lost).place == nil)
    let changed = facts { facts, _ in facts.publication?.version = "8" }
    #expect(try plan(changed).action == .tables(lowestTransaction: 50, .keep))
    #expect(try plan(changed).place == lsn("0/200") && plan(changed).keepsStart)
    // Behind a publication that is no more nothing can be decoded, and who asks for the tables may know of one.
    #expect(try plan(facts { facts, _ in facts.publication?.oid = 6 }).place == nil)
    #expect(try plan(changed, wish: .tables).place == nil)
  }

  @Test func withoutAProvenSnapshotTheHistoryAndTheStartDecide() throws {
    let missing = facts { facts, row in
      facts.slot = nil
      row.snapshot = nil
    }
    #expect(try plan(missing).action == .tables(lowestTransaction: 30, .create))
    #expect(try plan(missing, earlier: "40:41:").action == .tables(lowestTransaction: 40, .create))
    let unknown = facts { facts, row in
      facts.slot = nil
      row.snapshot = nil
      row.startSnapshot = nil
    }
    #expect(try plan(unknown).action == .tables(lowestTransaction: nil, .create))
  }

  /// What a publication left out is in no WAL, whatever else is wrong.
  @Test func aGapOfThePublicationIsKeptAlsoBehindAnotherFault() throws {
    let both = facts { facts, _ in
      facts.publication?.version = "8"
      facts.slot = nil
    }
    let found = try plan(both)
    #expect(found.fault?.kind == .slotMissing && found.publicationDoubt != nil)
    #expect(try plan(facts { facts, _ in facts.slot = nil }).publicationDoubt == nil)
  }

  /// What run halts for first is repaired first; the stream says the rest at the next start.
  @Test func aRowThatCannotBeSentHindersNoRecoveryOfAGap() throws {
    let moved = facts { facts, _ in facts.slot?.confirmedFlushLSN = lsn("0/300") }
    let fault = RelayError(.rowRejected, "a row")
    #expect(try plan(moved, streamFault: fault) == plan(moved))
    #expect(refusal(facts(), streamFault: fault) == .rowRejected)
  }

  @Test func anotherSystemKnowsNoneOfTheTransactions() throws {
    let other = facts { facts, _ in
      facts.systemIdentifier = 2
      facts.slot = nil
    }
    let plan = try plan(other, earlier: "40:41:")
    #expect(plan.action == .tables(lowestTransaction: nil, .create))
    #expect(!plan.keepsSnapshot && !plan.keepsStart && plan.place == nil)
  }

  @Test func theStreamGoesBackToTheCommonHistoryWhereItStillCan() throws {
    let history = [TimelineSwitch(timeline: 1, switchLSN: lsn("0/180"))]
    let diverged = facts { facts, _ in
      facts.timeline = 2
      facts.timelineHistory = history
    }
    #expect(try plan(diverged).action == .rewind(to: lsn("0/180")))
    // Without a fork nobody knows where the WAL was lost: what the slot has confirmed was there.
    #expect(try plan(facts { facts, _ in facts.walEnd = lsn("0/150") }).action == .rewind(to: lsn("0/100")))
    let behind = facts { facts, _ in
      facts.timeline = 2
      facts.timelineHistory = history
      facts.slot?.confirmedFlushLSN = lsn("0/190")
    }
    // The journal's snapshot may hold transactions that are no more.
    #expect(try plan(behind).action == .tables(lowestTransaction: 30, .keep))
    #expect(try plan(behind, earlier: "45:46:").action == .tables(lowestTransaction: 45, .keep))
    #expect(try !plan(behind).keepsSnapshot)
    let stranger = facts { facts, _ in facts.timeline = 2 }
    #expect(try plan(stranger).action == .tables(lowestTransaction: nil, .keep))
    let late = facts { facts, row in
      facts.timeline = 2
      facts.timelineHistory = history
      facts.slot = nil
      row.startLSN = lsn("0/190")
    }
    #expect(try plan(late).action == .tables(lowestTransaction: nil, .create))
    #expect(try !plan(late).keepsStart)
  }

  @Test func adoptingGivesUpNoMoreThanItMust() throws {
    func action(_ facts: ServerFacts) throws(RelayError) -> RecoveryPlan.Action {
      try plan(facts, wish: .adopt).action
    }
    #expect(try action(facts { facts, _ in facts.slot = nil }) == .adopt(at: nil, .create))
    #expect(try action(facts { facts, _ in facts.slot?.walStatus = "lost" }) == .adopt(at: nil, .replace))
    let moved = facts { facts, _ in facts.slot?.confirmedFlushLSN = lsn("0/300") }
    #expect(try action(moved) == .adopt(at: lsn("0/300"), .keep))
    #expect(try plan(moved, wish: .adopt).through == lsn("0/300"))
    #expect(
      try action(facts { facts, _ in facts.publication?.version = "8" }) == .adopt(at: lsn("0/200"), .keep))
    #expect(try action(facts { facts, _ in facts.publication?.oid = 6 }) == .adopt(at: nil, .keep))
    #expect(try action(facts { facts, _ in facts.systemIdentifier = 2 }) == .adopt(at: lsn("0/100"), .keep))
  }

  @Test func aStreamThatCannotBeReadIsReplacedByTheTables() throws {
    func fault(_ kind: RelayError.Kind) -> RelayError { RelayError(kind, "\(kind)") }
    var anchor = SlotFacts(database: "app", confirmedFlushLSN: lsn("0/200"))
    anchor.restartLSN = lsn("0/90")
    for (kind, slot) in [
      (RelayError.Kind.slotLost, RecoveryPlan.Slot.replace), (.publicationMissing, .keep),
      (.streamMalformed, .keep), (.tableUnsuitable, .keep),
    ] {
      let found = try plan(facts(), anchor: anchor, streamFault: fault(kind))
      #expect(
        found.action == .tables(lowestTransaction: 50, slot) && found.place == nil
          && found.fault?.kind == kind)
      #expect(found.from == lsn("0/200") && found.through == lsn("0/1000"))
      #expect(try plan(facts(), wish: .adopt, streamFault: fault(kind)).action == .adopt(at: nil, slot))
    }
    // Something may be corrected on the server, or one transaction given up: nothing is given up unasked.
    for (kind, slot) in [
      (RelayError.Kind.serverUnsuitable, RecoveryPlan.Slot.replace), (.rowRejected, .keep),
      (.publicationUnsuitable, .keep),
    ] {
      #expect(refusal(facts(), streamFault: fault(kind)) == kind)
      #expect(
        try plan(facts(), wish: .tables, streamFault: fault(kind)).action
          == .tables(lowestTransaction: 50, slot))
    }
    // With a gap beside it.
    let diverged = facts { facts, _ in
      facts.timeline = 2
      facts.timelineHistory = [TimelineSwitch(timeline: 1, switchLSN: lsn("0/180"))]
    }
    #expect(
      try plan(diverged, streamFault: fault(.slotLost)).action
        == .tables(lowestTransaction: 30, .replace))
  }

  @Test func aRangeIsNeverPrintedBackwards() throws {
    let histories: [[TimelineSwitch]?] = [
      nil, [TimelineSwitch(timeline: 1, switchLSN: lsn("0/180"))],
      [TimelineSwitch(timeline: 1, switchLSN: lsn("0/250"))],
    ]
    var count = 0
    for history in histories {
      for (timeline, walEnd) in [(UInt32(1), "0/1000"), (1, "0/190"), (2, "0/1000"), (2, "0/1F0")] {
        for confirmed in [nil, "0/100", "0/185", "0/400"] {
          for publication in [UInt32(5), 6] {
            let state = facts { facts, row in
              facts.timeline = timeline
              facts.timelineHistory = history
              facts.walEnd = lsn(walEnd)
              facts.publication?.oid = publication
              row.snapshotLSN = lsn("0/1FF")
              if let confirmed { facts.slot?.confirmedFlushLSN = lsn(confirmed) } else { facts.slot = nil }
            }
            for wish in [RecoveryWish.repair, .tables, .adopt] {
              let plan = try plan(state, wish: wish)
              if let from = plan.from, let through = plan.through {
                #expect(from <= through, "\(plan)")
                count += 1
              }
            }
          }
        }
      }
    }
    #expect(count > 100)
  }

  @Test func whatIsNoGapIsSaidFirst() {
    #expect(refusal(facts { facts, _ in facts.slot?.isActive = true }) == .slotActive)
    #expect(refusal(facts { facts, _ in facts.publication = nil }) == .publicationMissing)
    #expect(refusal(facts { facts, _ in facts.publication?.tables = [] }) == .publicationUnsuitable)
    #expect(refusal(facts { facts, _ in facts.slot?.plugin = "wal2json" }) == .slotUnsuitable)
    #expect(refusal(facts { facts, _ in facts.walLevel = "replica" }) == .serverUnsuitable)
    #expect(
      refusal(
        facts { facts, _ in
          facts.journal = .absent
          facts.slot?.walStatus = "lost"
        }) == .journalUnusable)
  }
}

@Suite struct BackfillPlanTests {
  private func plan(_ facts: ServerFacts, duplicates: Bool = false) throws(RelayError) -> BackfillPlan {
    try BackfillPlan.decide(
      facts, settings: PostgresSettings(), mappings: [OutboxMapping()], acceptsDuplicates: duplicates)
  }

  private func refusal(_ facts: ServerFacts, duplicates: Bool = false) -> RelayError.Kind? {
    do throws(RelayError) {
      _ = try plan(facts, duplicates: duplicates)
      return nil
    } catch {
      return error.kind
    }
  }

  @Test func aKnownStartIsUsedAlsoBesideTheDaemon() throws {
    let running = facts { facts, _ in facts.slot?.isActive = true }
    #expect(try plan(running) == .start(SlotStart(lsn: lsn("0/80"), snapshot: "30:30:")))
  }

  @Test func aSlotIsMadeOnlyWhereThereNeverWasOne() throws {
    let new = facts { facts, _ in
      facts.slot = nil
      facts.journal = .empty
    }
    #expect(try plan(new) == .createSlot)
    #expect(refusal(facts { facts, _ in facts.slot = nil }) == .slotMissing)
  }

  @Test func ofASlotThatNothingWasPublishedFromOnlyWhatItDoesNotHaveIsPublished() throws {
    let fresh = facts { _, row in
      row.startLSN = lsn("0/200")
      row.startSnapshot = nil
    }
    #expect(try plan(fresh) == .before(lsn("0/200")))
  }

  @Test func aSlotThatMayHavePublishedIsNotSentAgainUnasked() throws {
    let moved = facts { _, row in row.startSnapshot = nil }
    let ahead = facts { facts, row in
      row.startLSN = lsn("0/200")
      row.startSnapshot = nil
      facts.slot?.confirmedFlushLSN = lsn("0/200")
    }
    #expect(try plan(ahead) == .before(lsn("0/200")))
    // Without a row in the journal, nobody knows what was published from a slot.
    let unknown = facts { facts, _ in facts.journal = .empty }
    for facts in [moved, unknown] {
      do throws(RelayError) {
        _ = try plan(facts)
        Issue.record("not refused")
      } catch {
        #expect(error.kind == .usage && error.remedy?.contains("--accept-duplicates") == true)
      }
    }
    // Nothing that the slot still has is skipped.
    #expect(try plan(moved, duplicates: true) == .before(lsn("0/200")))
    #expect(try plan(unknown, duplicates: true) == .before(lsn("0/100")))
    #expect(refusal(facts { facts, _ in facts.journal = .absent }) == .journalUnusable)
  }
}
