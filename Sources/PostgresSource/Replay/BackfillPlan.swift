// Owns: which rows a backfill publishes, and whether the slot must be created first. The decision is pure.
// Must not know: Kafka, the command line.
public import RelayCore

public enum BackfillPlan: Equatable, Sendable {
  /// The slot's start is known, and what had been committed before.
  case start(SlotStart)
  /// Outboxes joined the publication later, and have a start of their own. That of the others is known.
  case joined
  /// There is no slot yet, and never was: it is created.
  case createSlot
  /// Only the place is known from which the stream goes on: what it does not have is published, also what was deleted
  /// from the tables after that place comes from the stream.
  case before(LSN)

  /// - Parameters:
  ///   - outboxes: those that are read, of `mappings`. Nil: all.
  ///   - acceptsDuplicates: what was published already may be published again.
  /// - Throws: what forbids a start; `usage` where the slot may have published events and its start is not known.
  public static func decide(
    _ facts: ServerFacts, settings: PostgresSettings, mappings: [OutboxMapping],
    outboxes: [OutboxMapping]? = nil, acceptsDuplicates: Bool
  ) throws(RelayError) -> BackfillPlan {
    let faults = StartDecision(facts: facts, settings: settings, mappings: mappings).faults
    if let fault = faults.first(where: { $0.kind != .slotActive }) { throw fault }
    guard facts.journal.isInUse else {
      throw RelayError(
        .journalUnusable, "a backfill needs the journal, which records where the stream begins",
        remedy: "Run what outboxd init prints, with postgres.journal: auto or required.")
    }
    guard let slot = facts.slot else { return .createSlot }
    let row = facts.journal.row
    if acceptsDuplicates, let place = [row?.checkpoint.lsn, slot.confirmedFlushLSN].compactMap(\.self).max() {
      return .before(place)
    }
    let reads = facts.backfillReads(outboxes ?? mappings)
    if reads.allSatisfy({ !$0.starts.isEmpty }) { return .joined }
    if let start = row?.startLSN {
      if let snapshot = row?.startSnapshot {
        return reads.allSatisfy(\.starts.isEmpty)
          ? .start(SlotStart(lsn: start, snapshot: snapshot)) : .joined
      }
      let isFresh = start == row?.checkpoint.lsn && slot.confirmedFlushLSN.map { $0 <= start } == true
      if isFresh { return .before(start) }
    }
    throw unknownStart(facts, settings)
  }

  private static func unknownStart(_ facts: ServerFacts, _ settings: PostgresSettings) -> RelayError {
    let history =
      facts.journal.row.map {
        "events were published from slot \"\(settings.slot)\" (checkpoint \($0.checkpoint.lsn))"
      }
      ?? "the journal has no row for slot \"\(settings.slot)\", so events may have been published from it"
    return RelayError(
      .usage,
      history
        + ", and the journal does not record which rows were committed before the slot was created: it was "
        + "created by hand, by an earlier version, or without the journal",
      remedy:
        "outboxd backfill --accept-duplicates publishes every row of the tables that the slot will not send, "
        + "including those that were published before.")
  }
}

/// Which rows a backfill publishes.
public struct BackfillStart: Equatable, Sendable {
  public var start: SlotStart
  /// A snapshot of which every row must be seen, where the start has none.
  public var covers: String?

  public init(start: SlotStart, covers: String? = nil) {
    self.start = start
    self.covers = covers
  }
}

extension PostgresSource {
  /// Carries the plan out as far as the database is concerned. The place from which the stream goes on never moves.
  public static func begin(
    _ plan: BackfillPlan, facts: ServerFacts, settings: PostgresSettings, stop: StopSignal, log: Log
  ) throws(RelayError) -> BackfillStart {
    if case .start(let start) = plan { return BackfillStart(start: start) }
    let connection = try ReplicationConnection(settings, stop: stop)
    let cut = try cut(connection, isTemporary: plan != .createSlot, settings: settings, stop: stop, log: log)
    // What committed before the place may wait for a standby, and is not visible yet. The cut's snapshot has it. It also
    // waits for transactions that had written to a table before it joined the publication.
    switch plan {
    case .before(let place):
      return BackfillStart(start: SlotStart(lsn: place, snapshot: nil), covers: cut.snapshot)
    case .joined:
      return BackfillStart(
        start: facts.slotStart ?? SlotStart(lsn: cut.lsn, snapshot: nil), covers: cut.snapshot)
    case .start, .createSlot: break
    }
    let journal = CheckpointJournal(connection: connection.sql, slot: settings.slot)
    try journal.boundStatements()
    try journal.begin(
      cut, in: facts.checkpoint(at: cut.lsn),
      publication: facts.publication?.record(ofSlotAt: cut.lsn), keepsSnapshot: true)
    return BackfillStart(start: cut)
  }
}
