// Owns: whether the slot may be streamed, and from where. Pure.
// Must not know: how the facts were read, and how a slot is created or started.
public import RelayCore

/// Judges the facts of a server against what the configuration names and what is known to be published.
///
/// Postgres neither refuses a start beyond its WAL nor notices that events were skipped: every check that
/// stands between a silent gap and the operator stands here.
public struct StartDecision {
  public enum Action: Equatable, Sendable {
    case start(LSN)
    /// The slot is to be created first; the stream starts at its consistent point.
    case createSlot
  }

  public let facts: ServerFacts
  public let settings: PostgresSettings
  public let mappings: [OutboxMapping]
  /// Where this process had got to before the connection was lost.
  public let resume: Checkpoint?
  /// The server's process of this process' former connection.
  let formerBackend: Int?

  public init(
    facts: ServerFacts, settings: PostgresSettings, mappings: [OutboxMapping], resume: Checkpoint? = nil
  ) {
    self.init(facts: facts, settings: settings, mappings: mappings, resume: resume, formerBackend: nil)
  }

  init(
    facts: ServerFacts, settings: PostgresSettings, mappings: [OutboxMapping], resume: Checkpoint?,
    formerBackend: Int?
  ) {
    self.facts = facts
    self.settings = settings
    self.mappings = mappings
    self.resume = resume
    self.formerBackend = formerBackend
  }

  /// - Throws: the first of `faults`.
  public func decide() throws(RelayError) -> Action {
    for check in Self.checks {
      if let fault = check(self) { throw fault }
    }
    guard let slot = facts.slot else { return .createSlot }
    let slotPosition = slot.confirmedFlushLSN ?? .zero
    return .start(max(slotPosition, checkpoint ?? .zero))
  }

  /// Everything that forbids a start, the gravest first. Empty: `decide` returns an action.
  public var faults: [RelayError] { Self.checks.compactMap { $0(self) } }

  private static let checks: [@Sendable (StartDecision) -> RelayError?] = [
    { $0.recoveryFault }, { $0.systemFault }, { $0.journalFault }, { $0.behindFault },
    { $0.timelineFault }, { $0.walLevelFault }, { $0.missingSlotFault },
    { $0.unsuitableSlotFault }, { $0.lostSlotFault }, { $0.activeSlotFault }, { $0.movedSlotFault },
    { $0.tableFault }, { $0.unloggedFault }, { $0.publicationFault }, { $0.publicationChangeFault },
  ]

  /// What is known to be published: the farther of the journal's row and the process' own memory. A row
  /// beyond the memory was written by another process, which took over meanwhile.
  private var known: [Checkpoint] { [facts.journal.row?.checkpoint, resume].compactMap(\.self) }

  var checkpoint: LSN? { known.map(\.lsn).max() }

  private var slotName: String { SQLText.literal(settings.slot) }

  /// `; the checkpoint was written at …`, for a person who looks for rows by their time.
  private var checkpointTime: String {
    facts.journal.row?.updatedAt.map { "; the checkpoint was written at \($0)" } ?? ""
  }

  private var historyNote: String {
    facts.journal.row?.isFromHistory == true
      ? "; outboxd.checkpoint no longer has a row for the slot, and this checkpoint is the newest of "
        + "outboxd.checkpoint_history" : ""
  }

  /// From where on events may be missing, on a server whose history has parted from the checkpoint's too. Nil: not known.
  var commonEnd: LSN? {
    let ends = known.compactMap { facts.commonEnd(with: $0) }
    return ends.count == known.count ? ends.max() : nil
  }
}

extension ServerFacts {
  /// Up to where the checkpoint's history is the server's too: the checkpoint itself, or the place where the server
  /// branched off. Nil: not known.
  func commonEnd(with checkpoint: Checkpoint) -> LSN? {
    guard checkpoint.systemIdentifier == systemIdentifier else { return nil }
    if checkpoint.timeline == timeline {
      if checkpoint.lsn <= walEnd { return checkpoint.lsn }
      // The end of the WAL was lost, and perhaps other transactions were written since: only what the slot has confirmed
      // was there before.
      return slot?.confirmedFlushLSN.flatMap { $0 <= walEnd ? $0 : nil }
    }
    return fork(of: checkpoint.timeline).map { min(checkpoint.lsn, $0, walEnd) }
  }

  /// Where an earlier timeline of this server's history ended. Nil: it is none, or not known.
  func fork(of earlier: UInt32) -> LSN? {
    guard timeline > earlier else { return nil }
    return timelineHistory?.first { $0.timeline == earlier }?.switchLSN
  }
}

// The server and its history.
extension StartDecision {
  /// A standby may be promoted at any moment: this is waited for.
  private var recoveryFault: RelayError? {
    guard facts.isInRecovery, facts.serverVersion < 160_000 || facts.journal != .off else { return nil }
    return RelayError(
      .sourceUnavailable, "the server is a standby, at \(facts.walEnd)",
      remedy: "Connect to the primary: name all hosts in postgres.conninfo and add "
        + "target_session_attrs=read-write.")
  }

  private var journalFault: RelayError? {
    switch facts.journal {
    case .unusable(let reason, let remedy):
      return RelayError(
        .journalUnusable, "cannot use the journal outboxd.checkpoint: \(reason)",
        remedy: remedy
          ?? "Run what outboxd init prints (schema, table and grants), or set postgres.journal: off.")
    case .absent where settings.journal == .required:
      return RelayError(
        .journalUnusable, "there is no table outboxd.checkpoint, and postgres.journal is \"required\"",
        remedy: "Run what outboxd init prints, or sql/05_journal.sql.")
    default: return nil
    }
  }

  /// A journal of another system came with a copy of the original. A server that has nothing of the original's is not
  /// where the process has streamed from: the next connection may lead there again.
  private var systemFault: RelayError? {
    if let row = facts.journal.row, row.checkpoint.systemIdentifier != facts.systemIdentifier {
      let source = row.isFromHistory ? "the journal's history" : "the journal"
      var fault = RelayError(
        .systemIdentifierChanged,
        "this is another cluster, and may be a copy of the original: \(source) has checkpoint \(row.checkpoint.lsn) of system "
          + "\(row.checkpoint.systemIdentifier) for slot \"\(settings.slot)\", and the server is system "
          + "\(facts.systemIdentifier), whose WAL ends at \(facts.walEnd): everything after that checkpoint is in doubt",
        remedy: "Check postgres.conninfo. "
          + GapRemedy.original(", restored from a dump or upgraded"))
      fault.mayBeCopy = true
      return fault
    }
    guard let resume, resume.systemIdentifier != facts.systemIdentifier else { return nil }
    return ServerIdentity(systemIdentifier: resume.systemIdentifier, timeline: resume.timeline)
      .fault(facts.server, at: facts.reached)
  }

  private var behindFault: RelayError? {
    guard let checkpoint, checkpoint > facts.walEnd else { return nil }
    return RelayError(
      .serverBehindCheckpoint,
      "the server's WAL ends at \(facts.walEnd), before checkpoint \(checkpoint) of slot "
        + "\"\(settings.slot)\": the server was restored, or failed over to a copy that lacks transactions "
        + "which are already published (\(facts.walEnd) to \(checkpoint))",
      remedy: remedy(
        beyond: facts.walEnd, "Wait if the server is still recovering. If those transactions are gone:"))
  }

  /// Of what only this process remembers the journal of the server, which was restored with it, says nothing, and neither
  /// does a recovery.
  private func remedy(beyond end: LSN, _ advice: String? = nil) -> String {
    if let journaled = facts.journal.row?.checkpoint.lsn, journaled <= end {
      return GapRemedy.original(", after a failover or a restore")
    }
    return advice.map { GapRemedy.recover($0) } ?? GapRemedy.recover
  }

  private var timelineFault: RelayError? {
    for checkpoint in known where checkpoint.timeline != facts.timeline {
      if let fault = timelineFault(of: checkpoint) { return fault }
    }
    return nil
  }

  private func timelineFault(of checkpoint: Checkpoint) -> RelayError? {
    let places =
      "checkpoint \(checkpoint.lsn) of slot \"\(settings.slot)\" lies on timeline "
      + "\(checkpoint.timeline), and the server is on timeline \(facts.timeline)"
    if let end = facts.fork(of: checkpoint.timeline) {
      guard end < checkpoint.lsn else { return nil }
      return RelayError(
        .timelineDiverged,
        "\(places), which branched off at \(end): transactions between \(end) and \(checkpoint.lsn) were "
          + "published and no longer exist, and others may have taken their place",
        remedy: remedy(beyond: end))
    }
    return RelayError(
      .timelineDiverged,
      "\(places), which does not descend from it as far as the server knows: everything up to the WAL's end at "
        + "\(facts.walEnd) is in doubt",
      remedy: GapRemedy.recover("Check postgres.conninfo. If this is the right server:"))
  }
}

// The slot.
extension StartDecision {
  private var missingSlotFault: RelayError? {
    guard facts.slot == nil else { return nil }
    if let checkpoint {
      // A slot does not come along with a base backup, and before Postgres 17 not with a failover.
      let mayBeCopy = facts.journal.row.map { $0.checkpoint.timeline != facts.timeline } ?? false
      var fault = RelayError(
        .slotMissing,
        "slot \"\(settings.slot)\" does not exist in database \"\(facts.database)\", though events up to "
          + "\(checkpoint) were published from it: what was committed between \(commonEnd ?? checkpoint) and a new slot "
          + "would be skipped (the WAL ends at \(facts.walEnd)\(checkpointTime))\(historyNote)"
          + (mayBeCopy ? "; the server was promoted since, and may be a copy of the original" : ""),
        remedy: mayBeCopy
          ? GapRemedy.original(", after a failover or a restore")
          : GapRemedy.recover("Find out who dropped it, or whether a failover left it behind."))
      fault.mayBeCopy = mayBeCopy
      return fault
    }
    if facts.journal == .forgotten {
      var fault = RelayError(
        .slotMissing,
        "slot \"\(settings.slot)\" does not exist in database \"\(facts.database)\", though outboxd.job records that "
          + "outboxd used it, and outboxd.checkpoint no longer has a row for it: everything that was committed up to the "
          + "WAL's end at \(facts.walEnd) is in doubt",
        remedy: GapRemedy.original(", and somebody dropped the slot and deleted the row"))
      // Nothing says of which server that job was.
      fault.mayBeCopy = true
      return fault
    }
    guard !facts.journal.isInUse else { return nil }
    return RelayError(
      .slotMissing,
      "slot \"\(settings.slot)\" does not exist in database \"\(facts.database)\", and without a journal outboxd "
        + "cannot know whether it ever did",
      remedy: "Run what outboxd init prints, or: SELECT pg_create_logical_replication_slot(\(slotName), "
        + "'pgoutput'); rows from before the slot are not published.")
  }

  private var unsuitableSlotFault: RelayError? {
    guard let slot = facts.slot else { return nil }
    let reason: String
    if slot.slotType != "logical" {
      reason = "is a \(slot.slotType) slot"
    } else if slot.plugin != "pgoutput" {
      reason = "has the plugin \"\(slot.plugin ?? "")\""
    } else if slot.database != facts.database {
      reason = "belongs to database \"\(slot.database ?? "")\", not to \"\(facts.database)\""
    } else if slot.isTemporary {
      reason = "is temporary"
    } else if slot.isTwoPhase {
      return twoPhaseFault
    } else {
      return nil
    }
    return RelayError(
      .slotUnsuitable,
      "slot \"\(settings.slot)\" \(reason); outboxd needs a permanent logical slot of pgoutput",
      remedy: "Set another name under postgres.slot, or drop it if nobody uses it: "
        + "SELECT pg_drop_replication_slot(\(slotName));")
  }

  /// Such a slot sends a prepared transaction before it is certain that it commits, whatever the stream asks for.
  private var twoPhaseFault: RelayError {
    let alter = "ALTER_REPLICATION_SLOT \(SQLText.identifier(settings.slot)) (TWO_PHASE false)"
    let remedy =
      facts.serverVersion >= 180_000
      ? "psql 'dbname=\(facts.database) replication=database' -c '\(alter)' as a role with REPLICATION; the slot keeps its "
        + "place, and nothing is skipped."
      : "SELECT pg_drop_replication_slot(\(slotName)); then "
        + (checkpoint == nil
          ? "outboxd backfill, which creates the slot and publishes the rows of the tables."
          : "outboxd recover, which creates the slot and publishes what was skipped.")
    return RelayError(
      .slotUnsuitable,
      "slot \"\(settings.slot)\" is a two-phase slot (two_phase is true): it sends transactions at PREPARE TRANSACTION, "
        + "before they are committed, and outboxd publishes committed ones only", remedy: remedy)
  }

  private var lostSlotFault: RelayError? {
    guard let slot = facts.slot, slot.walStatus == "lost" || slot.invalidationReason != nil else {
      return nil
    }
    let since = checkpoint == nil ? slot.confirmedFlushLSN : commonEnd
    let reason = slot.invalidationReason ?? "the WAL it needs was removed"
    return RelayError(
      .slotLost,
      "slot \"\(settings.slot)\" was invalidated (\(reason)); it stood at "
        + "\(since.map { "\($0)" } ?? "an unknown LSN"), and what was committed from there to the WAL's end at "
        + "\(facts.walEnd) was not published",
      remedy: GapRemedy.slotLost(slot.invalidationReason))
  }

  private var activeSlotFault: RelayError? {
    guard let slot = facts.slot, slot.isActive else { return nil }
    if slot.isBeingCreated { return PostgresFailure.slotUnfinished(settings.slot, slot) }
    if let formerBackend, formerBackend == slot.activePID {
      let timeout =
        facts.walSenderTimeout > 0 ? "after wal_sender_timeout (\(facts.walSenderTimeout / 1000) s)" : "late"
      return RelayError(
        .sourceUnavailable,
        "slot \"\(settings.slot)\" is still held by process \(formerBackend), this outboxd's former connection: the "
          + "server has not noticed yet that the connection is gone, and ends it \(timeout)",
        remedy: "None is needed. To continue at once: SELECT pg_terminate_backend(\(formerBackend));")
    }
    return PostgresFailure.slotActive(slot: settings.slot, pid: slot.activePID, code: nil)
  }

  private var movedSlotFault: RelayError? {
    guard let checkpoint, let confirmed = facts.slot?.confirmedFlushLSN, confirmed > checkpoint,
      synchronizedFrom == nil
    else { return nil }
    return RelayError(
      .slotMoved,
      "slot \"\(settings.slot)\" stands at \(confirmed), beyond checkpoint \(checkpoint): something else read "
        + "from it, moved it or created it again, and what was committed after \(commonEnd ?? checkpoint) up to \(confirmed) "
        + "is in doubt\(historyNote)",
      remedy: GapRemedy.recover)
  }

  /// The checkpoint that a failover slot has overtaken: it was synchronized to this server, then a standby, before the
  /// journal's last row came there. outboxd had confirmed up to where the slot stands, as the slot's place lies before
  /// the fork: on the former primary Kafka had acknowledged everything before it, and the journal had it. Nobody else
  /// can move a slot that is in use.
  private var synchronizedFrom: LSN? {
    guard let checkpoint, let slot = facts.slot, slot.isFailover, slot.isSynchronized,
      let confirmed = slot.confirmedFlushLSN, confirmed > checkpoint,
      facts.journal.row?.isFromHistory != true,
      known.allSatisfy({ facts.fork(of: $0.timeline).map { confirmed <= $0 } ?? false })
    else { return nil }
    return checkpoint
  }

  /// What is not known for certain of the place from which the stream goes on.
  var placeFindings: [Finding] {
    var findings: [Finding] = []
    if let checkpoint = synchronizedFrom, let confirmed = facts.slot?.confirmedFlushLSN {
      findings.append(
        Finding(
          message:
            "failover slot \"\(settings.slot)\" stands at \(confirmed), beyond checkpoint \(checkpoint): it was "
            + "synchronized to this server before the journal's last row was replicated, and the server was promoted; "
            + "outboxd continues at \(confirmed), which it had confirmed on the former primary",
          remedy:
            "None is needed. If somebody moved the slot on the former primary while outboxd was stopped: stop outboxd, "
            + "then outboxd recover --tables."))
    }
    if let row = facts.journal.row, row.isFromHistory, let confirmed = facts.slot?.confirmedFlushLSN,
      confirmed <= row.checkpoint.lsn
    {
      findings.append(
        Finding(
          message:
            "outboxd.checkpoint no longer has a row for slot \"\(settings.slot)\": outboxd continues at the newest "
            + "checkpoint of outboxd.checkpoint_history, \(row.checkpoint.lsn); events after it are sent "
            + "again, unless outboxd finds them in Kafka",
          remedy:
            "Find out who deleted the row. If the publication was changed since: outboxd recover --tables."
        ))
    }
    if facts.journal == .forgotten, facts.slot != nil {
      findings.append(
        Finding(
          message:
            "outboxd.checkpoint no longer has a row for slot \"\(settings.slot)\", though outboxd.job records that "
            + "outboxd used it: outboxd continues where the slot stands, and cannot know whether the slot was moved",
          remedy:
            "Find out who deleted the row. If the slot was moved: stop outboxd, then outboxd recover --tables."
        ))
    }
    return findings
  }

  private var walLevelFault: RelayError? {
    guard facts.walLevel != "logical" else { return nil }
    return RelayError(
      .serverUnsuitable, "the server's wal_level is \"\(facts.walLevel)\", not \"logical\"",
      remedy: PostgresFailure.walLevelRemedy)
  }
}
