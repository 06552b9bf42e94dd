// Owns: every observation of slot, server and journal at the start, and what it must lead to.
// Must not know: how the facts are read.
import RelayCore
import Testing

@testable import PostgresSource

@Suite struct StartDecisionTests {
  static let system: UInt64 = 7_000_000_000_000_000_001

  func lsn(_ text: String) -> LSN { LSN(text)! }

  func checkpoint(_ text: String, system id: UInt64 = Self.system, timeline: UInt32 = 1) -> Checkpoint {
    Checkpoint(lsn: lsn(text), systemIdentifier: id, timeline: timeline)
  }

  /// A server on which nothing is wrong: slot at 0/100, checkpoint 0/200, WAL to 0/1000.
  func goodFacts(_ change: (inout ServerFacts) -> Void = { _ in }) -> ServerFacts {
    var table = TableFacts(schema: "public", name: "outbox")
    table.columns = [TableFacts.Column(name: "id", type: "uuid", isNullable: false)]
    var facts = ServerFacts(
      serverVersion: 150_020, systemIdentifier: Self.system, timeline: 1, walEnd: lsn("0/1000"),
      database: "app",
      slot: SlotFacts(database: "app", confirmedFlushLSN: lsn("0/100")),
      publication: PublicationFacts(tables: [PublicationFacts.Table(schema: "public", name: "outbox")]),
      tables: [table], journal: .row(JournalRow(checkpoint("0/200"))))
    change(&facts)
    return facts
  }

  func decide(
    _ facts: ServerFacts, resume: Checkpoint? = nil, journal: PostgresSettings.Journal = .auto,
    mappings: [OutboxMapping] = [OutboxMapping()]
  ) -> Result<StartDecision.Action, RelayError> {
    var settings = PostgresSettings()
    settings.journal = journal
    let decision = StartDecision(facts: facts, settings: settings, mappings: mappings, resume: resume)
    do throws(RelayError) {
      return .success(try decision.decide())
    } catch {
      return .failure(error)
    }
  }

  func expect(
    _ facts: ServerFacts, refusedAs kind: RelayError.Kind, saying texts: [String] = [],
    remedy: String? = nil, resume: Checkpoint? = nil, journal: PostgresSettings.Journal = .auto,
    mappings: [OutboxMapping] = [OutboxMapping()], sourceLocation: SourceLocation = #_sourceLocation
  ) {
    switch decide(facts, resume: resume, journal: journal, mappings: mappings) {
    case .success(let action): Issue.record("\(action)", sourceLocation: sourceLocation)
    case .failure(let error):
      #expect(error.kind == kind, "\(error)", sourceLocation: sourceLocation)
      for text in texts {
        #expect(error.message.contains(text), "\(error)", sourceLocation: sourceLocation)
      }
      #expect(error.remedy?.isEmpty == false, "no remedy: \(error)", sourceLocation: sourceLocation)
      if let remedy {
        #expect(error.remedy?.contains(remedy) == true, "\(error)", sourceLocation: sourceLocation)
      }
    }
  }

  @Test func startsAtTheCheckpointWhereTheSlotForgot() {
    #expect(decide(goodFacts()) == .success(.start(lsn("0/200"))))
  }

  @Test func startsAtTheSlotWhereNothingIsKnown() {
    for journal in [JournalFacts.off, .absent, .empty] {
      #expect(decide(goodFacts { $0.journal = journal }) == .success(.start(lsn("0/100"))))
    }
  }

  @Test func resumesFromTheFartherOfJournalAndMemory() {
    #expect(decide(goodFacts(), resume: checkpoint("0/300")) == .success(.start(lsn("0/300"))))
    // Another process took over meanwhile and wrote the journal.
    #expect(decide(goodFacts(), resume: checkpoint("0/150")) == .success(.start(lsn("0/200"))))
    let off = goodFacts { $0.journal = .off }
    #expect(decide(off, resume: checkpoint("0/300")) == .success(.start(lsn("0/300"))))
    expect(off, refusedAs: .slotMoved, resume: checkpoint("0/50"))
  }

  @Test func createsTheSlotOnlyWhereTheJournalProvesThatThereWasNone() {
    let missing = goodFacts { $0.slot = nil }
    #expect(
      decide(
        goodFacts {
          $0.slot = nil
          $0.journal = .empty
        }) == .success(.createSlot))
    expect(
      missing, refusedAs: .slotMissing, saying: ["\"outboxd\"", "0/200", "0/1000"],
      remedy: "outboxd recover")
    for journal in [JournalFacts.off, .absent] {
      expect(
        goodFacts {
          $0.slot = nil
          $0.journal = journal
        }, refusedAs: .slotMissing, remedy: "pg_create_logical_replication_slot('outboxd', 'pgoutput')")
    }
    expect(
      goodFacts {
        $0.slot = nil
        $0.journal = .empty
      }, refusedAs: .slotMissing, saying: ["0/300"], resume: checkpoint("0/300"))
  }

  @Test func aSlotIsNotCreatedWhileSomethingElseIsWrong() {
    let facts = goodFacts {
      $0.slot = nil
      $0.journal = .empty
      $0.publication = nil
    }
    expect(facts, refusedAs: .publicationMissing)
  }

  @Test func refusesAnotherCluster() {
    expect(
      goodFacts { $0.systemIdentifier = 42 }, refusedAs: .systemIdentifierChanged,
      saying: ["42", "\(Self.system)", "0/200"], remedy: "outboxd recover")
    // The next connection may lead again to where the process has streamed from.
    let elsewhere = goodFacts {
      $0.reached = "b.example:5432"
      $0.journal = .unusable("it is somebody else's")
    }
    expect(
      elsewhere, refusedAs: .sourceUnavailable, saying: ["b.example:5432", "42", "\(Self.system)"],
      resume: checkpoint("0/200", system: 42))
    // Unless it has come with the journal of that server.
    expect(
      goodFacts { $0.systemIdentifier = 42 }, refusedAs: .systemIdentifierChanged,
      resume: checkpoint("0/200"))
  }

  @Test func refusesAServerWhoseWALEndsBeforeTheCheckpoint() {
    expect(
      goodFacts { $0.walEnd = lsn("0/1FF") }, refusedAs: .serverBehindCheckpoint, saying: ["0/1FF", "0/200"])
    #expect(decide(goodFacts { $0.walEnd = lsn("0/200") }) == .success(.start(lsn("0/200"))))
  }

  @Test func followsAPromotionThatKeptEverythingPublished() {
    let history = [TimelineSwitch(timeline: 1, switchLSN: lsn("0/200"))]
    #expect(
      decide(
        goodFacts {
          $0.timeline = 2
          $0.timelineHistory = history
        }) == .success(.start(lsn("0/200"))))
    // Two promotions at once.
    #expect(
      decide(
        goodFacts {
          $0.timeline = 3
          $0.timelineHistory = history + [TimelineSwitch(timeline: 2, switchLSN: lsn("0/180"))]
        }) == .success(.start(lsn("0/200"))))
  }

  @Test func refusesATimelineThatBranchedOffBeforeTheCheckpoint() {
    expect(
      goodFacts {
        $0.timeline = 2
        $0.timelineHistory = [TimelineSwitch(timeline: 1, switchLSN: lsn("0/1FF"))]
      }, refusedAs: .timelineDiverged, saying: ["0/1FF", "0/200", "timeline 2"])
    for history in [nil, [], [TimelineSwitch(timeline: 7, switchLSN: lsn("0/900"))]] {
      expect(
        goodFacts {
          $0.timeline = 2
          $0.timelineHistory = history
        }, refusedAs: .timelineDiverged)
    }
    // Back on an older timeline.
    expect(
      goodFacts { $0.journal = .row(JournalRow(checkpoint("0/200", timeline: 2))) },
      refusedAs: .timelineDiverged)
  }

  @Test func refusesASlotThatWasInvalidated() {
    expect(
      goodFacts { $0.slot?.walStatus = "lost" }, refusedAs: .slotLost, saying: ["0/200", "0/1000"],
      remedy: "outboxd recover")
    expect(
      goodFacts { $0.slot?.invalidationReason = "idle_timeout" }, refusedAs: .slotLost,
      saying: ["idle_timeout"])
    #expect(decide(goodFacts { $0.slot?.walStatus = "unreserved" }) == .success(.start(lsn("0/200"))))
  }

  @Test func refusesASlotOfAnotherKind() {
    let changes: [(String, (inout SlotFacts) -> Void)] = [
      ("physical", { $0.slotType = "physical" }), ("wal2json", { $0.plugin = "wal2json" }),
      ("\"other\"", { $0.database = "other" }), ("temporary", { $0.isTemporary = true }),
    ]
    for (text, change) in changes {
      expect(
        goodFacts { if $0.slot != nil { change(&$0.slot!) } }, refusedAs: .slotUnsuitable, saying: [text])
    }
  }

  @Test func standsByWhileAnotherProcessStreams() {
    let facts = goodFacts {
      $0.slot?.isActive = true
      $0.slot?.activePID = 4711
      // The other process has moved on meanwhile: that is no gap.
      $0.slot?.confirmedFlushLSN = lsn("0/900")
    }
    expect(facts, refusedAs: .slotActive, saying: ["4711"])
  }

  @Test func refusesASlotThatSomebodyElseMoved() {
    expect(
      goodFacts { $0.slot?.confirmedFlushLSN = lsn("0/201") }, refusedAs: .slotMoved,
      saying: ["0/201", "0/200", "\"outboxd\""], remedy: "outboxd recover")
  }

  /// The slot has come to the standby with the WAL of its last confirmation, and the journal's row has not.
  @Test func aFailoverSlotThatIsAheadOfTheJournalAfterAPromotionIsNotSaidToBeMoved() {
    func facts(_ change: (inout ServerFacts) -> Void = { _ in }) -> ServerFacts {
      goodFacts {
        $0.serverVersion = 180_000
        $0.timeline = 2
        $0.timelineHistory = [TimelineSwitch(timeline: 1, switchLSN: lsn("0/300"))]
        $0.slot?.isFailover = true
        $0.slot?.isSynchronized = true
        $0.slot?.confirmedFlushLSN = lsn("0/300")
        change(&$0)
      }
    }
    #expect(decide(facts()) == .success(.start(lsn("0/300"))))
    let finding = StartDecision(facts: facts(), settings: PostgresSettings(), mappings: [OutboxMapping()])
      .placeFindings
    #expect(finding.count == 1 && !finding.contains { $0.level == .notice })
    #expect(finding[0].message.contains("0/300") && finding[0].message.contains("0/200"))
    // Any doubt: beyond the fork, on the same timeline, no failover slot, not synchronized, and nothing but the history.
    let doubts: [(inout ServerFacts) -> Void] = [
      { $0.slot?.confirmedFlushLSN = lsn("0/301") },
      {
        $0.timeline = 1
        $0.timelineHistory = nil
      },
      { $0.slot?.isFailover = false }, { $0.slot?.isSynchronized = false },
      {
        var row = JournalRow(checkpoint("0/200"))
        row.isFromHistory = true
        $0.journal = .row(row)
      },
    ]
    for doubt in doubts {
      expect(facts(doubt), refusedAs: .slotMoved, saying: ["0/200"], remedy: "outboxd recover")
    }
  }

  @Test func aSlotWhoseRowWasDeletedIsKnownByItsHistoryAndItsJobs() {
    let known = JournalFacts.row(
      {
        var row = JournalRow(checkpoint("0/80"))
        row.isFromHistory = true
        return row
      }())
    expect(
      goodFacts {
        $0.slot = nil
        $0.journal = known
      }, refusedAs: .slotMissing, saying: ["0/80", "outboxd.checkpoint_history"], remedy: "outboxd recover")
    expect(
      goodFacts {
        $0.slot = nil
        $0.journal = .forgotten
      }, refusedAs: .slotMissing, saying: ["outboxd.job", "0/1000"], remedy: "outboxd recover")
    expect(
      goodFacts { $0.journal = known }, refusedAs: .slotMoved,
      saying: ["0/80", "0/100", "checkpoint_history"])
    // The slot is not ahead of what the history has: nothing is in doubt, and something is said.
    for (journal, confirmed, start) in [(known, "0/70", "0/80"), (.forgotten, "0/70", "0/70")] {
      let facts = goodFacts {
        $0.journal = journal
        $0.slot?.confirmedFlushLSN = lsn(confirmed)
      }
      #expect(decide(facts) == .success(.start(lsn(start))))
      let findings = StartDecision(facts: facts, settings: PostgresSettings(), mappings: []).placeFindings
      #expect(findings.count == 1 && findings[0].message.contains("no longer has a row"))
    }
  }

  @Test func refusesAServerThatCannotDecode() {
    expect(goodFacts { $0.walLevel = "replica" }, refusedAs: .serverUnsuitable, remedy: "wal_level")
  }

  @Test func waitsForAStandbyToBePromoted() {
    expect(goodFacts { $0.isInRecovery = true }, refusedAs: .sourceUnavailable, saying: ["standby"])
  }

  @Test func refusesAJournalThatIsNotAsConfigured() {
    expect(
      goodFacts { $0.journal = .unusable("no rights") }, refusedAs: .journalUnusable, saying: ["no rights"])
    expect(goodFacts { $0.journal = .absent }, refusedAs: .journalUnusable, journal: .required)
  }

  @Test func whatMayBeACopyIsSaidToBeOne() {
    func mayBeCopy(_ facts: ServerFacts) -> Bool? {
      guard case .failure(let error) = decide(facts) else { return nil }
      return error.mayBeCopy && error.message.contains("copy of the original")
    }
    let promoted = goodFacts {
      $0.slot = nil
      $0.timeline = 2
      $0.timelineHistory = [TimelineSwitch(timeline: 1, switchLSN: lsn("0/250"))]
    }
    #expect(mayBeCopy(promoted) == true)
    #expect(mayBeCopy(goodFacts { $0.systemIdentifier = 42 }) == true)
    #expect(mayBeCopy(goodFacts { $0.slot = nil }) == false)
  }

  @Test func everyGapLeadsToOneCommand() {
    let gaps = [
      goodFacts { $0.slot = nil }, goodFacts { $0.slot?.walStatus = "lost" },
      goodFacts { $0.slot?.confirmedFlushLSN = lsn("0/300") }, goodFacts { $0.systemIdentifier = 42 },
      goodFacts { $0.walEnd = lsn("0/150") }, goodFacts { $0.timeline = 2 },
    ]
    for facts in gaps {
      guard case .failure(let error) = decide(facts) else {
        Issue.record("started")
        continue
      }
      let word = error.mayBeCopy ? " --yes-this-is-the-original" : ""
      #expect(error.remedy?.contains("outboxd recover\(word) publishes") == true, "\(error)")
      #expect(
        error.message.contains("0/200")
          && error.message.contains(
            "\(facts.slot?.confirmedFlushLSN == lsn("0/300") ? lsn("0/300") : facts.walEnd)"),
        "\(error)")
    }
  }

  @Test func theGravestFaultComesFirstAndAllAreListed() {
    let facts = goodFacts {
      $0.systemIdentifier = 42
      $0.walEnd = lsn("0/10")
      $0.walLevel = "replica"
      $0.publication = nil
      $0.slot?.walStatus = "lost"
    }
    let decision = StartDecision(facts: facts, settings: PostgresSettings(), mappings: [OutboxMapping()])
    #expect(
      decision.faults.map(\.kind) == [
        .systemIdentifierChanged, .serverBehindCheckpoint, .serverUnsuitable, .slotLost, .publicationMissing,
      ])
    expect(facts, refusedAs: .systemIdentifierChanged)
  }

  @Test func historyFilesAreRead() {
    let file = "1\t0/A5009740\tno recovery target specified\n\n2\t1/B0000000\tbefore 2000-01-01\n# x\n"
    #expect(
      TimelineSwitch.parse(file) == [
        TimelineSwitch(timeline: 1, switchLSN: lsn("0/A5009740")),
        TimelineSwitch(timeline: 2, switchLSN: lsn("1/B0000000")),
      ])
  }
}
