// Owns: which rows a backfill publishes, and whether the slot's start must be made first. The decision is pure.
// Must not know: Kafka, the command line.
public import RelayCore

public enum BackfillPlan: Equatable, Sendable {
  /// The slot's start is known: exactly the rows visible in its snapshot.
  case start(SlotStart)
  /// There is no slot yet, and never was: it is created.
  case createSlot
  /// The slot has published nothing: the stream is cut anew, here and now.
  case cut
  /// Duplicates are accepted: all rows are published, and the stream goes on where it is, from this place: what was
  /// deleted from the tables since is nowhere else.
  case everything(place: LSN)

  /// - Parameter acceptsDuplicates: what was published already may be published again.
  /// - Throws: what forbids a start; `usage` where events were published and the slot's start is not known.
  public static func decide(
    _ facts: ServerFacts, settings: PostgresSettings, mappings: [OutboxMapping], acceptsDuplicates: Bool
  ) throws(RelayError) -> BackfillPlan {
    let faults = StartDecision(facts: facts, settings: settings, mappings: mappings).faults
    if let fault = faults.first(where: { $0.kind != .slotActive }) { throw fault }
    guard facts.journal.isInUse else {
      throw RelayError(
        .journalUnusable, "a backfill needs the journal, which keeps the place where it meets the stream",
        remedy: "Run what outboxd init prints, with postgres.journal: auto or required.")
    }
    guard let slot = facts.slot else { return .createSlot }
    let row = facts.journal.row
    if let row, let lsn = row.startLSN, let snapshot = row.startSnapshot, !acceptsDuplicates {
      return .start(SlotStart(lsn: lsn, snapshot: snapshot))
    }
    let hasNotMoved =
      row == nil
      || (row?.startLSN == row?.checkpoint.lsn
        && slot.confirmedFlushLSN.map { $0 <= row?.startLSN ?? .zero } == true)
    guard hasNotMoved || acceptsDuplicates else {
      throw RelayError(
        .usage,
        "events were published from slot \"\(settings.slot)\" already (the checkpoint is "
          + "\(row?.checkpoint.lsn ?? .zero)), and what had been committed before its start is not known: the slot was "
          + "created by SQL, or by an earlier version",
        remedy:
          "Stop outboxd, and: outboxd backfill --accept-duplicates publishes every row of the tables, also those "
          + "that were published before.")
    }
    if slot.isActive { throw PostgresFailure.slotActive(slot: settings.slot, pid: slot.activePID, code: nil) }
    if acceptsDuplicates, let place = [row?.checkpoint.lsn, slot.confirmedFlushLSN].compactMap(\.self).max() {
      return .everything(place: place)
    }
    return .cut
  }
}

extension PostgresSource {
  /// Has the slot's start known, as the plan says: after it the daemon may run. What was committed before is left to
  /// the backfill.
  public static func begin(
    _ plan: BackfillPlan, facts: ServerFacts, settings: PostgresSettings, stop: StopSignal, log: Log
  ) throws(RelayError) -> SlotStart {
    if case .start(let start) = plan { return start }
    let connection = try ReplicationConnection(settings, stop: stop)
    let start = try cut(
      connection, isTemporary: plan != .createSlot, settings: settings, stop: stop, log: log)
    if let slot = try SlotInspector(connection: connection.sql, settings: settings).slot(), slot.isActive {
      throw PostgresFailure.slotActive(slot: settings.slot, pid: slot.activePID, code: nil)
    }
    let place = if case .everything(let place) = plan { place } else { start.lsn }
    let journal = CheckpointJournal(connection: connection.sql, slot: settings.slot)
    try journal.boundStatements()
    try journal.begin(
      start,
      in: Checkpoint(lsn: place, systemIdentifier: facts.systemIdentifier, timeline: facts.timeline),
      publication: facts.publicationRecord(at: place), keepsSnapshot: true)
    return start
  }
}
