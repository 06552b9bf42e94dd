// Owns: what can be replayed from what, fact by fact.
import RelayCore
import Testing

@testable import PostgresSource

private func row(_ lsn: UInt64, _ time: Int64, snapshot: String? = "50:60:") -> HistoryRow {
  HistoryRow(
    lsn: LSN(lsn), snapshot: snapshot, snapshotLSN: LSN(lsn - 1), recordedAt: time, timeline: 1,
    systemIdentifier: 7)
}

/// Published up to 1000, WAL kept from 500 on.
private func facts(_ change: (inout ReplayFacts) -> Void = { _ in }) -> ReplayFacts {
  var main = SlotFacts(database: "shop", confirmedFlushLSN: LSN(1000))
  main.restartLSN = LSN(990)
  var anchor = SlotFacts(database: "shop", confirmedFlushLSN: LSN(500))
  anchor.restartLSN = LSN(490)
  var facts = ReplayFacts(
    slot: "outboxd", systemIdentifier: 7, timeline: 1, walEnd: LSN(1200), now: 10_000_000, main: main,
    anchor: anchor,
    journal: .row(JournalRow(Checkpoint(lsn: LSN(1000), systemIdentifier: 7, timeline: 1))))
  facts.anchorRow = row(510, 5_000_000)
  facts.oldestSnapshot = row(200, 2_000_000)
  change(&facts)
  return facts
}

private func plan(
  _ from: ReplayPlace, _ to: ReplayPlace? = nil, _ origin: ReplayOrigin? = nil,
  _ change: (inout ReplayFacts) -> Void = { _ in }
) throws(RelayError) -> ReplayPlan {
  try ReplayPlanner(facts: facts(change), from: from, to: to).plan(origin: origin)
}

private func refusal(
  _ from: ReplayPlace, _ to: ReplayPlace? = nil, _ origin: ReplayOrigin? = nil,
  _ change: (inout ReplayFacts) -> Void = { _ in }
) -> RelayError? {
  do throws(RelayError) {
    _ = try plan(from, to, origin, change)
    return nil
  } catch {
    return error
  }
}

@Suite struct ReplayPlannerTests {
  @Test("The WAL is taken from the anchor's position on, up to what is published")
  func wal() throws {
    let whole = try plan(.lsn(LSN(500)))
    #expect(whole == ReplayPlan(origin: .wal, from: LSN(500), through: LSN(999), published: LSN(1000)))
    let part = try plan(.lsn(LSN(600)), .lsn(LSN(700)))
    #expect(part.from == LSN(600) && part.through == LSN(700))
    #expect(try plan(.lsn(LSN(600)), .lsn(LSN(600))).through == LSN(600))
    // What is published ends at an LSN that nothing has committed at yet.
    #expect(try plan(.lsn(LSN(600)), .lsn(LSN(1000))).through == LSN(999))
  }

  @Test("The farther of slot and journal tells what is published")
  func published() throws {
    let found = try plan(.lsn(LSN(500)), nil, nil) { $0.main?.confirmedFlushLSN = LSN(900) }
    #expect(found.published == LSN(1000))
    #expect(refusal(.lsn(LSN(500)), nil, nil) { ($0.main, $0.journal) = (nil, .empty) }?.kind == .slotMissing)
  }

  @Test("Below the anchor the tables are taken, with the transactions that the journal's snapshots leave")
  func table() throws {
    let closed = try plan(.lsn(LSN(400)), nil, nil) {
      $0.snapshotRow = row(350, 3_000_000, snapshot: "4294967301:4294967400:4294967301,4294967399")
      $0.endTransaction = 4_294_967_500
    }
    #expect(closed.origin == .table && closed.from == LSN(400))
    #expect(closed.lowestTransaction == 4_294_967_301 && closed.endTransaction == 4_294_967_500)
    #expect(closed.notes.count == 1)
    let open = try plan(.lsn(LSN(600)), nil, .table) { $0.snapshotRow = row(350, 3_000_000) }
    #expect(open.origin == .table && open.lowestTransaction == 50 && open.endTransaction == nil)
    #expect(open.notes.count == 2)
  }

  @Test("Before all history the slot's own start serves, and nothing before it")
  func start() throws {
    func withStart(_ facts: inout ReplayFacts) {
      var row = JournalRow(Checkpoint(lsn: LSN(1000), systemIdentifier: 7, timeline: 1))
      (row.startLSN, row.startSnapshot) = (LSN(100), "20:30:25")
      facts.journal = .row(row)
    }
    #expect(try plan(.lsn(LSN(100)), nil, nil, withStart).lowestTransaction == 20)
    let error = try #require(refusal(.lsn(LSN(99)), nil, nil, withStart))
    #expect(error.kind == .replayUnavailable && error.message.contains("from 0/64"), "\(error)")
  }

  @Test("What cannot be served is refused with the lowest that can, by WAL and by table")
  func unavailable() throws {
    let both = try #require(refusal(.lsn(LSN(10))))
    #expect(both.kind == .replayUnavailable && both.kind.exitCode == 26)
    #expect(both.message.contains("the WAL is kept from 0/1F4 (2000-01-01T00:00:05Z) on"))
    #expect(both.message.contains("the tables can be read from 0/C7 (2000-01-01T00:00:02Z) on"))
    #expect(both.remedy?.hasPrefix("The lowest that can be served is --from 0/C7. ") == true)
    let wal = try #require(refusal(.lsn(LSN(499)), nil, .wal) { $0.snapshotRow = row(350, 3) })
    #expect(wal.kind == .replayUnavailable && !wal.message.contains("tables"))
    #expect(wal.remedy?.hasPrefix("The lowest that can be served is --from 0/1F4. ") == true)
    #expect(refusal(.lsn(LSN(600)), nil, .wal) { $0.anchor = nil }?.message.contains("no slot") == true)
    for change in [
      { $0.anchor?.walStatus = "lost" }, { $0.anchor?.invalidationReason = "wal_removed" },
      { $0.anchor?.restartLSN = nil },
    ] as [(inout ReplayFacts) -> Void] {
      #expect(refusal(.lsn(LSN(600)), nil, .wal, change)?.message.contains("is lost") == true)
    }
    #expect(refusal(.lsn(LSN(10)), nil, nil) { $0.journal = .absent }?.kind == .replayUnavailable)
  }

  @Test("A time begins at the checkpoint before it, and the exact cut is by commit time")
  func times() throws {
    let found = try plan(.time(6_000_000), .time(7_000_000), nil) { facts in
      facts.fromRow = row(600, 5_500_000)
      facts.timeEnd = LSN(800)
    }
    #expect(found.origin == .wal && found.from == LSN(600) && found.through == LSN(800))
    #expect(found.fromTime == 6_000_000 && found.toTime == 7_000_000)
    #expect(
      try plan(.time(6_000_000), .time(7_000_000), nil) { $0.fromRow = row(600, 5) }.through == LSN(999))
    #expect(refusal(.time(1))?.kind == .replayUnavailable)
    #expect(refusal(.time(1), nil, nil) { $0.journal = .off }?.kind == .journalUnusable)
  }

  @Test(
    "A range that makes no sense is refused in one line",
    arguments: [
      (.lsn(LSN(1201)), nil, "beyond the end of the WAL"),
      (.lsn(LSN(600)), .lsn(LSN(1201)), "end of the WAL"),
      (.lsn(LSN(1000)), nil, "nothing after it is published"),
      (.lsn(LSN(600)), .lsn(LSN(1001)), "beyond the last published event"),
      (.lsn(LSN(600)), .lsn(LSN(599)), "is after --to"),
      (.time(11_000_000), nil, "is in the future"), (.time(1), .time(11_000_000), "is in the future"),
      (.time(5), .time(4), "is after --to"),
    ] as [(ReplayPlace, ReplayPlace?, String)])
  func nonsense(_ from: ReplayPlace, _ to: ReplayPlace?, _ text: String) throws {
    let error = try #require(refusal(from, to))
    #expect(error.kind == .usage && error.message.contains(text), "\(error)")
  }

  @Test("Another system or timeline than the journal's is refused")
  func identity() {
    #expect(refusal(.lsn(LSN(600)), nil, nil) { $0.systemIdentifier = 8 }?.kind == .systemIdentifierChanged)
    #expect(refusal(.lsn(LSN(600)), nil, nil) { $0.timeline = 2 }?.kind == .timelineDiverged)
  }
}
