// Owns: what repairs a gap, decided from the facts. Pure.
// Must not know: how it is carried out, the command line.
public import RelayCore

/// What an operator asked of a recovery.
public enum RecoveryWish: Equatable, Sendable {
  /// What the facts call for.
  case repair
  /// From the tables, also where no gap is seen.
  case tables
  /// Nothing is published: the server is taken as it is.
  case adopt
}

/// What `outboxd recover` does.
public struct RecoveryPlan: Equatable, Sendable {
  public enum Slot: Equatable, Sendable {
    /// There is none: it is created.
    case create
    /// It cannot be read any more: it is dropped and created.
    case replace
    /// It stands before the new checkpoint, and stays.
    case keep
  }

  public enum Action: Equatable, Sendable {
    case nothing
    /// The checkpoint goes back to a place that the server's history has too; the stream sends everything after it.
    case rewind(to: LSN)
    /// The stream of the anchor is published from this place to the slot's; then the checkpoint becomes that one.
    case wal(from: LSN, Slot)
    /// The rows of this full transaction id and later ones are published, nil: all; then the checkpoint becomes a new
    /// place that lies behind them all.
    case tables(lowestTransaction: UInt64?, Slot)
    /// The checkpoint becomes this place, or where it is nil a new one, and nothing is published.
    case adopt(at: LSN?, Slot)
  }

  public var action: Action
  /// What is wrong. Nil: nothing is.
  public var fault: RelayError?
  /// The range in doubt; a nil end is the end of the WAL.
  public var from: LSN?
  public var through: LSN?
  /// What a proven snapshot says still holds afterwards.
  public var keepsSnapshot = false
  /// What the journal says of the slot's start still holds: the server has that history.
  public var keepsStart = false
  /// Of `tables`: from where the stream goes on, because the slot still has everything after it: rows that were
  /// deleted meanwhile are nowhere else. Nil: from the cut.
  public var place: LSN?
  /// From here on the publication may not have carried every row. Nil: it has.
  public var publicationDoubt: LSN?

  /// - Parameters:
  ///   - facts: those of the server.
  ///   - anchor: the slot that keeps WAL for replay, where there is one.
  ///   - earlier: the newest snapshot of the journal's history at or before the place where the histories part, for a
  ///     checkpoint on another timeline.
  ///   - streamFault: what ends the stream before the end of the WAL. Nil: nothing does, or the facts forbid to open it.
  /// - Throws: the fault that a recovery cannot repair, which then comes first: a slot in use, a publication that is
  ///   missing, rights.
  public static func decide(
    _ facts: ServerFacts, settings: PostgresSettings, mappings: [OutboxMapping], wish: RecoveryWish = .repair,
    anchor: SlotFacts? = nil, earlier: String? = nil, streamFault: RelayError? = nil
  ) throws(RelayError) -> RecoveryPlan {
    let decision = StartDecision(facts: facts, settings: settings, mappings: mappings)
    let faults = decision.faults
    let streamFault = try repairable(streamFault, decision, wish)
    var plan = doubt(decision, fault: faults.first ?? streamFault)
    let common = facts.journal.row.flatMap { facts.commonEnd(with: $0.checkpoint) }
    let slot = slot(facts, streamFault)
    if wish == .adopt {
      let place = slot == .keep && streamFault == nil ? adoptedPlace(facts, common) : nil
      plan.action = plan.fault == nil ? .nothing : .adopt(at: place, slot)
      if let place { plan.through = place }
      return plan
    }
    guard wish == .tables || plan.fault != nil else { return plan }
    // Whoever asks for the tables may have a stream that cannot continue where it is.
    let mayStream = wish == .repair && streamFault == nil
    if mayStream, let place = rewindPlace(facts, faults, common) {
      plan.action = .rewind(to: place)
      plan.from = place
      return plan
    }
    // The anchor's stream begins before the slot's, and meets the same place.
    if mayStream, plan.keepsSnapshot, let place = anchoredPlace(facts, faults, anchor) {
      plan.action = .wal(from: place, slot)
      if slot == .keep { plan.through = facts.slot?.confirmedFlushLSN }
      return plan
    }
    if mayStream, slot == .keep, common != nil { plan.place = adoptedPlace(facts, common) }
    let row = facts.journal.row
    let isSameSystem = row?.checkpoint.systemIdentifier == facts.systemIdentifier
    plan.action = .tables(
      lowestTransaction: isSameSystem ? lowest(row, common: common, earlier: earlier) : nil, slot)
    return plan
  }

  /// The fault of the stream, where it is the first to repair.
  /// - Throws: what a recovery cannot repair.
  private static func repairable(
    _ streamFault: RelayError?, _ decision: StartDecision, _ wish: RecoveryWish
  ) throws(RelayError) -> RelayError? {
    let (facts, faults) = (decision.facts, decision.faults)
    if let other = faults.first(where: { $0 != decision.publicationChangeFault && !isGap($0, facts) }) {
      throw other
    }
    var streamFault = streamFault
    if let fault = streamFault, wish == .repair, !isStreamGap(fault) {
      // What run halts for first is repaired first.
      if faults.isEmpty { throw fault }
      streamFault = nil
    }
    guard facts.journal.isInUse else {
      throw RelayError(
        .journalUnusable, "recover stores its result in the journal, and there is no journal",
        remedy:
          "Run what outboxd init prints, with postgres.journal: auto or required; then outboxd recover --tables."
      )
    }
    return streamFault
  }

  /// What is in doubt, before anything is decided about it.
  private static func doubt(_ decision: StartDecision, fault: RelayError?) -> RecoveryPlan {
    let facts = decision.facts
    let row = facts.journal.row
    let common = row.flatMap { facts.commonEnd(with: $0.checkpoint) }
    var plan = RecoveryPlan(action: .nothing, fault: fault)
    plan.from = row == nil ? facts.slot?.confirmedFlushLSN : common
    if fault?.kind == .publicationUnsuitable { plan.from = decision.publicationDoubt }
    plan.through = fault?.kind == .slotMoved ? facts.slot?.confirmedFlushLSN : facts.walEnd
    if decision.publicationChangeFault != nil { plan.publicationDoubt = decision.publicationDoubt ?? .zero }
    let isSameSystem = row?.checkpoint.systemIdentifier == facts.systemIdentifier
    plan.keepsSnapshot = isSameSystem && common == row?.checkpoint.lsn
    plan.keepsStart = common.map { row?.startLSN ?? .zero <= $0 } ?? false
    return plan
  }

  /// Where `outboxd run` would begin to read. Nil: there is no slot that it could read from.
  static func streamStart(_ facts: ServerFacts) -> LSN? {
    guard slot(facts, nil) == .keep, let confirmed = facts.slot?.confirmedFlushLSN, confirmed <= facts.walEnd
    else {
      return nil
    }
    return max(confirmed, facts.journal.row.flatMap { facts.commonEnd(with: $0.checkpoint) } ?? .zero)
  }

  /// A fault that skips events, rather than one that hinders a start.
  private static func isGap(_ fault: RelayError, _ facts: ServerFacts) -> Bool {
    switch fault.kind {
    case .slotLost, .slotMoved, .systemIdentifierChanged, .timelineDiverged, .serverBehindCheckpoint: true
    // Without a journal nothing is known that could be repaired; init makes both.
    case .slotMissing: facts.journal.isInUse
    // A publication that leaves rows out even now must be corrected first.
    default: false
    }
  }

  /// A place that the stream cannot pass, whatever is done on the server, while the tables have its rows. An error that
  /// somebody may correct on the server, and a row that the server cannot send, are left to an operator.
  private static func isStreamGap(_ fault: RelayError) -> Bool {
    switch fault.kind {
    case .slotLost, .publicationMissing, .streamMalformed, .tableUnsuitable: true
    default: false
    }
  }

  /// Decoding always begins where the slot's WAL begins: what cannot be read there is not passed by a later start.
  private static func slot(_ facts: ServerFacts, _ streamFault: RelayError?) -> Slot {
    guard let slot = facts.slot else { return .create }
    let isUnreadable = streamFault.map { [.slotLost, .serverUnsuitable].contains($0.kind) } ?? false
    return slot.walStatus == "lost" || slot.invalidationReason != nil || isUnreadable ? .replace : .keep
  }

  /// The stream itself has everything where only the history is another and the slot stands before its beginning.
  private static func rewindPlace(_ facts: ServerFacts, _ faults: [RelayError], _ common: LSN?) -> LSN? {
    guard let common, let confirmed = facts.slot?.confirmedFlushLSN, confirmed <= common,
      faults.allSatisfy({
        $0.kind == .timelineDiverged || $0.kind == .serverBehindCheckpoint
      })
    else { return nil }
    return common
  }

  /// The checkpoint, where the anchor has everything from there on: rows that were deleted since too.
  private static func anchoredPlace(
    _ facts: ServerFacts, _ faults: [RelayError], _ anchor: SlotFacts?
  ) -> LSN? {
    guard let checkpoint = facts.journal.row?.checkpoint, checkpoint.timeline == facts.timeline,
      let anchor, anchor.plugin == "pgoutput", anchor.walStatus != "lost", anchor.invalidationReason == nil,
      anchor.restartLSN != nil, let first = anchor.confirmedFlushLSN, first <= checkpoint.lsn,
      faults.allSatisfy({ [.slotMoved, .slotMissing, .slotLost].contains($0.kind) })
    else { return nil }
    return checkpoint.lsn
  }

  /// What the slot still has is not given up. Nil: behind a publication that is no more nothing can be decoded.
  private static func adoptedPlace(_ facts: ServerFacts, _ common: LSN?) -> LSN? {
    if let before = facts.journal.row?.publication, common != nil, before.oid != facts.publication?.oid {
      return nil
    }
    guard let confirmed = facts.slot?.confirmedFlushLSN else { return nil }
    return max(confirmed, common ?? confirmed)
  }

  /// Everything below it was published, or had been committed before the slot began.
  private static func lowest(_ row: JournalRow?, common: LSN?, earlier: String?) -> UInt64? {
    guard let row, let common else { return earlier.flatMap(HistoryRow.lowest) }
    if common == row.checkpoint.lsn, let snapshot = row.snapshot { return HistoryRow.lowest(snapshot) }
    if let earlier { return HistoryRow.lowest(earlier) }
    guard let start = row.startLSN, start <= common else { return nil }
    return row.startSnapshot.flatMap(HistoryRow.lowest)
  }
}
