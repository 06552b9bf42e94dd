// Owns: whether a range can be replayed, and from what. Pure.
// Must not know: how the facts were read, and how a range is opened.
import RelayCore

/// What is known when a replay is planned. The rows of the history follow from the range that is asked for.
struct ReplayFacts: Equatable {
  var slot: String
  var systemIdentifier: UInt64
  var timeline: UInt32
  var walEnd: LSN
  var now: PostgresMicroseconds
  var main: SlotFacts?
  var anchor: SlotFacts?
  var journal: JournalFacts

  /// The oldest row at or above the anchor's position: from its time on the WAL has everything.
  var anchorRow: HistoryRow?
  var oldestSnapshot: HistoryRow?
  /// The newest row at or before the time that a range begins with.
  var fromRow: HistoryRow?
  /// The newest with a snapshot at or below the LSN that a range begins with.
  var snapshotRow: HistoryRow?
  /// Everything that committed at or before the time that a range ends with lies below it.
  var timeEnd: LSN?
  /// No transaction of the range has this id or a higher one.
  var endTransaction: UInt64?
}

struct ReplayPlanner {
  var facts: ReplayFacts
  let from: ReplayPlace
  let to: ReplayPlace?

  /// What was published: everything that committed below it. A slot forgets a little in a crash.
  var published: LSN {
    max(facts.main?.confirmedFlushLSN ?? .zero, facts.journal.row?.checkpoint.lsn ?? .zero)
  }

  /// Faults of the range as it was asked for, and of the server. Nil: it may be looked for.
  func check() throws(RelayError) {
    try checkServer()
    for (name, place) in [("--from", Optional(from)), ("--to", to)] {
      switch place {
      case .lsn(let lsn)? where lsn > facts.walEnd:
        throw usage("\(name) \(lsn) is beyond the end of the WAL, \(facts.walEnd)")
      case .time(let time)? where time > facts.now:
        throw usage(
          "\(name) \(Self.text(time)) is in the future; the server's clock says \(Self.text(facts.now))")
      default: break
      }
    }
    switch (from, to) {
    case (.lsn(let first), .lsn(let last)?) where first > last:
      throw usage("--from \(first) is after --to \(last)")
    case (.time(let first), .time(let last)?) where first > last:
      throw usage("--from \(Self.text(first)) is after --to \(Self.text(last))")
    default: break
    }
    if case .lsn(let lsn) = from, lsn >= published {
      throw usage("--from \(lsn): nothing after it is published yet; published events end at \(published)")
    }
    if case .lsn(let lsn)? = to, lsn > published {
      throw usage("--to \(lsn) is beyond the last published event, \(published)")
    }
  }

  private func checkServer() throws(RelayError) {
    if let known = facts.journal.row?.checkpoint {
      guard known.systemIdentifier == facts.systemIdentifier else {
        throw RelayError(
          .systemIdentifierChanged,
          "the journal of slot \"\(facts.slot)\" is of system \(known.systemIdentifier), and the server is system "
            + "\(facts.systemIdentifier): their LSNs cannot be compared", remedy: "Check postgres.conninfo.")
      }
      guard known.timeline == facts.timeline else {
        throw RelayError(
          .timelineDiverged,
          "the journal of slot \"\(facts.slot)\" is on timeline \(known.timeline), and the server on "
            + "\(facts.timeline)",
          remedy: "Start outboxd run first: it checks the promoted server against the journal.")
      }
    }
    guard published > .zero else {
      throw RelayError(
        .slotMissing, "there is no slot \"\(facts.slot)\", and no journal that records one",
        remedy: "Check postgres.slot and postgres.conninfo.")
    }
  }

  /// The commit LSN that the range begins at.
  func start() throws(RelayError) -> LSN {
    switch from {
    case .lsn(let lsn): return lsn
    case .time(let time):
      guard facts.journal.isInUse else {
        throw RelayError(
          .journalUnusable, "--from and --to as times need the journal, and there is none",
          remedy: "Give --from as an LSN, or run what outboxd init prints.")
      }
      guard let row = facts.fromRow else { throw unavailable("\(Self.text(time))", nil, walReason(.zero)) }
      guard row.lsn < published else {
        throw usage(
          "--from \(Self.text(time)): nothing was published since then; published events end at \(published)")
      }
      return row.lsn
    }
  }

  /// The commit LSN that the range ends with.
  func through(_ start: LSN) throws(RelayError) -> LSN {
    let last = LSN(published.rawValue - 1)
    switch to {
    case nil: return last
    case .lsn(let lsn)?: return min(lsn, last)
    case .time(let time)?:
      let end = min(facts.timeEnd ?? last, last)
      guard end >= start else { throw usage("--from \(start) is after --to \(Self.text(time))") }
      return end
    }
  }

  /// - Throws: `replayUnavailable`, with what can be had.
  func plan(origin wanted: ReplayOrigin?) throws(RelayError) -> ReplayPlan {
    try check()
    let start = try start()
    var plan = ReplayPlan(
      origin: .wal, from: start, through: try through(start), published: published)
    if case .time(let time) = from { plan.fromTime = time }
    if case .time(let time)? = to { plan.toTime = time }
    let walReason = walReason(start) ?? gapReason(start, plan.through)
    if wanted != .table, walReason == nil {
      plan.notes = joinedNotes(plan)
      return plan
    }
    guard wanted != .wal, let lowest = lowestTransaction(start) else {
      throw unavailable("\(start)", wanted, walReason)
    }
    plan.origin = .table
    plan.lowestTransaction = lowest
    plan.endTransaction = facts.endTransaction
    plan.notes = tableNotes(plan)
    if wanted == nil, let reason = gapReason(start, plan.through) {
      plan.notes.insert("Reading from the tables, because \(reason).", at: 0)
    }
    return plan
  }

  private func lowestTransaction(_ start: LSN) -> UInt64? {
    if let row = facts.snapshotRow { return row.lowestTransaction }
    guard let row = facts.journal.row, let first = row.startLSN, first <= start else { return nil }
    return row.startSnapshot.flatMap(HistoryRow.lowest)
  }

  private func tableNotes(_ plan: ReplayPlan) -> [String] {
    var notes = [
      "The events come from the tables: all of the range that still exist, and others from around it, "
        + "without sequence."
    ]
    if plan.endTransaction == nil {
      notes.append(
        "The journal does not know yet where the range ends: rows up to now are replayed, except those that the WAL shows "
          + "to be inserted later.")
    }
    return notes
  }
}

// What can be had, and what cannot.
extension ReplayPlanner {
  /// Why the WAL does not have everything from `start` on; nil: it has.
  func walReason(_ start: LSN) -> String? {
    let name = ReplaySlots.anchor(of: facts.slot)
    guard let anchor = facts.anchor else {
      return "no WAL is kept for replay (there is no slot \"\(name)\"; see replay.window)"
    }
    guard anchor.plugin == "pgoutput", anchor.invalidationReason == nil, anchor.walStatus != "lost",
      let first = anchor.confirmedFlushLSN, anchor.restartLSN != nil
    else { return "the WAL that was kept for replay is gone (slot \"\(name)\" is lost)" }
    guard first > start else { return nil }
    return "the WAL is kept from \(first)\(Self.since(facts.anchorRow)) on"
  }

  /// Why the WAL does not have every row of the range; nil: it has, as far as it reaches.
  private func gapReason(_ start: LSN, _ end: LSN) -> String? {
    guard let gap = gaps.first(where: { $0.from <= end && $0.through > start }) else { return nil }
    return
      "the WAL's stream lacks rows that were committed between \(gap.from) and \(gap.through), which the "
      + "publication did not carry (outboxd recover has closed that gap)"
  }

  private var gaps: [PublicationRecord.Gap] { facts.journal.row?.publication?.gaps ?? [] }

  /// Tables that were no members in the whole of the range.
  private func joinedNotes(_ plan: ReplayPlan) -> [String] {
    let members = facts.journal.row?.publication?.members ?? [:]
    return members.sorted { $0.key < $1.key }.compactMap { _, member in
      guard let name = member.name, let start = member.start, start.by > plan.from, start.by != start.lsn
      else {
        return nil
      }
      return
        "\(name.qualified) joined the publication before \(start.by): the WAL has none of its rows from before "
        + "that; --source table reads them from the table."
    }
  }

  /// Where the tables can serve from, by transaction ids.
  var tableReach: (lsn: LSN, row: HistoryRow?)? {
    let row = facts.journal.row
    if let start = row?.startLSN, row?.startSnapshot != nil { return (start, facts.oldestSnapshot) }
    return facts.oldestSnapshot.map { ($0.snapshotLSN ?? $0.lsn, $0) }
  }

  private func unavailable(
    _ place: String, _ wanted: ReplayOrigin?, _ walReason: String?
  ) -> RelayError {
    let table =
      tableReach.map { "the tables can be read from \($0.lsn)\(Self.since($0.row)) on" }
      ?? "the journal knows no place to read the tables from"
    var reasons: [String] = []
    if wanted != .table { reasons.append(walReason ?? "") }
    if wanted != .wal { reasons.append(table) }
    return RelayError(
      .replayUnavailable, "--from \(place) cannot be served: " + reasons.joined(separator: "; "),
      remedy: (lowest(wanted).map { "The lowest that can be served is --from \($0). " } ?? "")
        + (wanted == nil
          ? "outboxd backfill publishes the rows from before the slot."
          : "Without --source outboxd takes the source that has the range."))
  }

  /// From where on the WAL has everything.
  var lowestOfWAL: LSN? {
    facts.anchor?.confirmedFlushLSN.flatMap { first in
      walReason(first) == nil ? max(first, gaps.map(\.through).max() ?? .zero) : nil
    }
  }

  /// The lowest LSN that a replay can begin at.
  private func lowest(_ wanted: ReplayOrigin?) -> LSN? {
    let wal = wanted == .table ? nil : lowestOfWAL
    return [wal, wanted == .wal ? nil : tableReach?.lsn].compactMap(\.self).min()
  }

  private static func since(_ row: HistoryRow?) -> String { row.map { " (\(text($0.recordedAt)))" } ?? "" }

  private static func text(_ time: PostgresMicroseconds) -> String { RFC3339.shortest(microseconds: time) }

  private func usage(_ message: String) -> RelayError { RelayError(.usage, message) }
}
