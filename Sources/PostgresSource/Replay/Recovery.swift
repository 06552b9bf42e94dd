// Owns: the steps of a recovery and of a backfill on the database: facts, slots, snapshots, the journal's row.
// Must not know: Kafka, how rows are published, the command line.
public import RelayCore

/// The repair of a gap, step by step. Until `complete` nothing says that the gap is closed: whatever ends a recovery
/// before leaves the fault in place, and it is begun again.
public struct Recovery: Sendable {
  /// For connections to the server of the facts.
  public let settings: PostgresSettings
  public let facts: ServerFacts
  public let plan: RecoveryPlan
  /// What is read where the plan is to read tables.
  public let reads: [TableRead]
  public let tables: [RecoveredTable]

  /// Reads the facts, and the stream up to the end of the WAL, as `PostgresSource.open` would; and decides. Changes
  /// nothing.
  /// - Throws: `slotActive` where outboxd runs; what a recovery cannot repair; what a connection throws.
  public static func plan(
    settings: PostgresSettings, mappings: [OutboxMapping], wish: RecoveryWish, stop: StopSignal,
    log: Log = Log(level: .error)
  ) throws(RelayError) -> Recovery {
    let facts = try PostgresSource.inspect(settings: settings, mappings: mappings, stop: stop)
    if let slot = facts.slot, slot.isActive { throw inUse(settings, slot, command: "outboxd recover") }
    let settings = settings.on(facts.server)
    let anchor = try PostgresSource.anchor(settings: settings, stop: stop)
    let earlier = try earlierSnapshot(facts, settings, stop)
    func decide(_ streamFault: RelayError?) throws(RelayError) -> RecoveryPlan {
      try RecoveryPlan.decide(
        facts, settings: settings, mappings: mappings, wish: wish, anchor: anchor, earlier: earlier,
        streamFault: streamFault)
    }
    var plan = try decide(nil)
    if let start = RecoveryPlan.streamStart(facts) {
      let probe = StreamProbe(facts: facts, settings: settings, mappings: mappings, stop: stop, log: log)
      if let fault = try probe.fault(from: start) { plan = try decide(fault) }
    }
    var reads: [TableRead] = []
    if case .tables = plan.action { reads = facts.reads(mappings) }
    let tables = reads.isEmpty ? [] : try Self.tables(reads, settings, stop)
    return Recovery(settings: settings, facts: facts, plan: plan, reads: reads, tables: tables)
  }

  /// What moves the checkpoint is not seen by a relay that runs.
  static func inUse(_ settings: PostgresSettings, _ slot: SlotFacts?, command: String) -> RelayError {
    if let slot, slot.isBeingCreated { return PostgresFailure.slotUnfinished(settings.slot, slot) }
    var error = PostgresFailure.slotActive(slot: settings.slot, pid: slot?.activePID, code: nil)
    error.remedy =
      "Stop outboxd, then run \(command) again. If another program reads the slot: "
      + PostgresFailure.freeTheSlot(settings.slot)
    return error
  }

  /// The newest snapshot that was proven before the server's history parted from the journal's.
  private static func earlierSnapshot(
    _ facts: ServerFacts, _ settings: PostgresSettings, _ stop: StopSignal
  ) throws(RelayError) -> String? {
    guard let checkpoint = facts.journal.row?.checkpoint, let end = facts.commonEnd(with: checkpoint) else {
      return nil
    }
    let history = CheckpointHistory(
      connection: try SQLConnection(settings, applicationName: "outboxd recover", stop: stop),
      slot: settings.slot, systemIdentifier: checkpoint.systemIdentifier, timeline: checkpoint.timeline)
    // A row counts only if its own checkpoint is common too: it says what was published.
    return try history.newest(withSnapshotAtOrBelow: end).flatMap { $0.lsn <= end ? $0.snapshot : nil }
  }

  /// Makes the new place of the slot: a slot, or a temporary one beside it.
  public func cut(stop: StopSignal, log: Log) throws(RelayError) -> SlotStart {
    // What the slot has is not needed from the anchor.
    if case .wal(_, .keep) = plan.action, let place = facts.slot?.confirmedFlushLSN {
      return SlotStart(lsn: place, snapshot: nil)
    }
    let connection = try ReplicationConnection(settings, stop: stop)
    let slot: RecoveryPlan.Slot =
      switch plan.action {
      case .wal(_, let slot), .tables(_, let slot), .adopt(_, let slot): slot
      case .nothing, .rewind: .keep
      }
    if slot != .keep, facts.journal.row == nil {
      // Without a row a new slot would look as if nothing had ever been published.
      let journal = CheckpointJournal(connection: connection.sql, slot: settings.slot)
      try journal.boundStatements()
      try journal.write(checkpoint(facts.slot?.confirmedFlushLSN ?? facts.walEnd), snapshot: nil)
    }
    if slot == .replace {
      try connection.sql.query("SELECT pg_drop_replication_slot(\(SQLText.literal(settings.slot)))")
      log.notice("dropped the slot, which could not be read", ("slot", settings.slot))
    }
    return try PostgresSource.cut(
      connection, isTemporary: slot == .keep, settings: settings, stop: stop, log: log)
  }

  /// A slot that took the place of a failover slot becomes one, and not before the gap is closed: a standby that was
  /// promoted before would go on at the new place.
  private func restoreFailover(_ connection: ReplicationConnection) throws(RelayError) {
    switch plan.action {
    case .wal(_, .replace), .tables(_, .replace), .adopt(_, .replace):
      guard facts.slot?.isFailover == true else { return }
      try connection.sql.query("ALTER_REPLICATION_SLOT \(SQLText.identifier(settings.slot)) (FAILOVER true)")
    default: return
    }
  }

  /// Rows that a cut has behind it and that may not have been published, and those since the cut.
  public func range(before cut: SlotStart?, since: PostgresMicroseconds? = nil) -> TableRange {
    var range = TableRange()
    if case .tables(let lowest, _) = plan.action { range.lowestTransaction = lowest }
    range.doubt = "a table does not record at which LSN a row was committed"
    // Nothing bounds it above: a row that is updated after the cut looks as if it had been inserted then, and the stream
    // does not have it.
    range.covers = cut?.snapshot
    range.since = since
    return range
  }

  /// What the anchor is to send. Nil: nothing, or not from the anchor.
  public func replay(before cut: SlotStart?) -> ReplayPlan? {
    guard case .wal(let from, _) = plan.action, let end = cut?.lsn ?? plan.through else { return nil }
    return ReplayPlan(
      origin: .wal, from: from, through: max(from, LSN(max(1, end.rawValue) - 1)), published: end)
  }

  /// Closes the gap: from here on `outboxd run` starts at the new place. One statement, all or nothing.
  /// - Throws: `slotActive` where somebody streams from the slot meanwhile.
  public func complete(_ cut: SlotStart?, stop: StopSignal) throws(RelayError) {
    let connection = try ReplicationConnection(settings, stop: stop)
    let inspector = SlotInspector(connection: connection.sql, settings: settings)
    if let slot = try inspector.slot(), slot.isActive {
      throw Self.inUse(settings, slot, command: "outboxd recover")
    }
    let journal = CheckpointJournal(connection: connection.sql, slot: settings.slot)
    try journal.boundStatements()
    if let row = facts.journal.row, row.isFromHistory {
      let snapshot = row.snapshot.flatMap { text in
        row.snapshotLSN.map { ProvenSnapshot(text: text, lsn: $0) }
      }
      try journal.write(row.checkpoint, snapshot: snapshot)
    }
    switch plan.action {
    case .nothing: break
    case .rewind(let lsn):
      try journal.rewind(to: checkpoint(lsn), publication: publicationRecord(at: lsn))
    case .wal:
      guard let cut else { return }
      try journal.begin(
        cut, in: checkpoint(cut.lsn), publication: publicationRecord(at: cut.lsn), keepsSnapshot: true,
        start: .kept)
    case .tables:
      guard let cut else { return }
      // The publication of before the cut: what touched it since shows at the next start.
      let place = plan.place ?? cut.lsn
      try journal.begin(
        cut, in: checkpoint(place), publication: publicationRecord(at: place), proven: true,
        keepsSnapshot: plan.keepsSnapshot, start: plan.keepsStart ? .kept : .unknown)
    case .adopt(let place, _):
      guard let adopted = place.map({ SlotStart(lsn: $0, snapshot: nil) }) ?? cut else { return }
      try journal.begin(
        adopted, in: checkpoint(adopted.lsn), publication: publicationRecord(at: adopted.lsn),
        keepsSnapshot: plan.keepsSnapshot, start: plan.keepsStart ? .kept : .given)
    }
    try restoreFailover(connection)
  }

  /// With the gap that this recovery closes, where the WAL itself lacks rows: no replay from the WAL has them.
  private func publicationRecord(at checkpoint: LSN) -> PublicationRecord? {
    var record = facts.publicationRecord(at: checkpoint)
    if let doubt = plan.publicationDoubt {
      record?.gaps.append(
        PublicationRecord.Gap(from: doubt, through: facts.publication?.seenAt ?? facts.walEnd))
    }
    return record
  }

  private func checkpoint(_ lsn: LSN) -> Checkpoint {
    facts.checkpoint(at: lsn)
  }

  /// True where `cut` must come before `complete`.
  public var needsCut: Bool {
    switch plan.action {
    case .wal, .tables, .adopt(nil, _): true
    case .nothing, .rewind, .adopt: false
    }
  }
}

extension PostgresSource {
  static func cut(
    _ connection: ReplicationConnection, isTemporary: Bool, settings: PostgresSettings, stop: StopSignal,
    log: Log
  ) throws(RelayError) -> SlotStart {
    log.notice(
      "cutting the stream: waiting until the transactions that run now have ended",
      ("slot", settings.slot))
    // Slot names are 63 bytes of a-z, 0-9 and _ at most.
    let name =
      isTemporary ? String(settings.slot.prefix(48)) + "_cut_\(UInt32.random(in: .min ... .max))" : nil
    let start = try connection.createSlot(
      temporary: name, settings: settings, stop: stop, log: log)
    guard start.snapshot != nil else {
      throw RelayError(
        .failed, "the snapshot of the cut at \(start.lsn) could not be read",
        remedy: "Start the command again.")
    }
    log.notice("cut the stream", ("slot", settings.slot), ("lsn", "\(start.lsn)"))
    return start
  }
}
