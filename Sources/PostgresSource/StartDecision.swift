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

  /// Something that does not stop the relay, and ought to be known.
  public struct Finding: Equatable, Sendable {
    public var message: String
    public var remedy: String?
    /// To be known beforehand, and no reason for a line of the log at each start.
    public var isNotice = false
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
    { $0.recoveryFault }, { $0.journalFault }, { $0.systemFault },
    { $0.behindFault }, { $0.timelineFault }, { $0.walLevelFault }, { $0.missingSlotFault },
    { $0.unsuitableSlotFault }, { $0.lostSlotFault }, { $0.activeSlotFault }, { $0.movedSlotFault },
    { $0.tableFault }, { $0.unloggedFault }, { $0.publicationFault }, { $0.publicationChangeFault },
  ]

  /// What is known to be published: the farther of the journal's row and the process' own memory. A row
  /// beyond the memory was written by another process, which took over meanwhile.
  private var known: [(source: String, checkpoint: Checkpoint)] {
    var list: [(String, Checkpoint)] = []
    if let row = facts.journal.row { list.append(("the journal", row.checkpoint)) }
    if let resume { list.append(("this process", resume)) }
    return list
  }

  var checkpoint: LSN? { known.map(\.checkpoint.lsn).max() }

  private var slotName: String { SQLText.literal(settings.slot) }

  /// `; the checkpoint was written at …`, for a person who looks for rows by their time.
  private var checkpointTime: String {
    facts.journal.row?.updatedAt.map { "; the checkpoint was written at \($0)" } ?? ""
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
    case .unusable(let reason):
      return RelayError(
        .journalUnusable, "the journal outboxd.checkpoint cannot be used: \(reason)",
        remedy: "Run what outboxd init prints (schema, table and grants), or set postgres.journal: off.")
    case .absent where settings.journal == .required:
      return RelayError(
        .journalUnusable, "there is no table outboxd.checkpoint, and postgres.journal is \"required\"",
        remedy: "Run what outboxd init prints, or sql/05_journal.sql.")
    default: return nil
    }
  }

  private var systemFault: RelayError? {
    for (source, checkpoint) in known where checkpoint.systemIdentifier != facts.systemIdentifier {
      var fault = RelayError(
        .systemIdentifierChanged,
        "this is another cluster, and may be a copy of the original: \(source) has checkpoint \(checkpoint.lsn) of system "
          + "\(checkpoint.systemIdentifier) for slot \"\(settings.slot)\", and the server is system "
          + "\(facts.systemIdentifier), whose WAL ends at \(facts.walEnd): everything after that checkpoint is in doubt",
        remedy: "Check postgres.conninfo. "
          + GapRemedy.original(", restored from a dump or upgraded"))
      fault.mayBeCopy = true
      return fault
    }
    return nil
  }

  private var behindFault: RelayError? {
    guard let checkpoint, checkpoint > facts.walEnd else { return nil }
    return RelayError(
      .serverBehindCheckpoint,
      "the server's WAL ends at \(facts.walEnd), before checkpoint \(checkpoint) of slot "
        + "\"\(settings.slot)\": the server was restored, or failed over to a copy that lacks transactions "
        + "which are already published (\(facts.walEnd) to \(checkpoint))",
      remedy: GapRemedy.recover("Wait, if the server is still recovering. If those transactions are gone:"))
  }

  private var timelineFault: RelayError? {
    for (_, checkpoint) in known where checkpoint.timeline != facts.timeline {
      if let fault = timelineFault(of: checkpoint) { return fault }
    }
    return nil
  }

  private func timelineFault(of checkpoint: Checkpoint) -> RelayError? {
    let places =
      "checkpoint \(checkpoint.lsn) of slot \"\(settings.slot)\" lies on timeline "
      + "\(checkpoint.timeline), and the server is on timeline \(facts.timeline)"
    let end = facts.timelineHistory?.first { $0.timeline == checkpoint.timeline }?.switchLSN
    if let end, facts.timeline > checkpoint.timeline {
      guard end < checkpoint.lsn else { return nil }
      return RelayError(
        .timelineDiverged,
        "\(places), which branched off at \(end): transactions between \(end) and \(checkpoint.lsn) were "
          + "published and no longer exist, and others may have taken their place",
        remedy: GapRemedy.recover)
    }
    return RelayError(
      .timelineDiverged,
      "\(places), which does not descend from it as far as the server tells: everything up to the WAL's end at "
        + "\(facts.walEnd) is in doubt",
      remedy: GapRemedy.recover("Check postgres.conninfo. If this server is the one:"))
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
          + "\(checkpoint) were published from it: what was committed between \(checkpoint) and a new slot "
          + "would be skipped (the WAL ends at \(facts.walEnd)\(checkpointTime))"
          + (mayBeCopy ? "; the server was promoted since, and may be a copy of the original" : ""),
        remedy: mayBeCopy
          ? GapRemedy.original(", after a failover or a restore")
          : GapRemedy.recover("Find out who dropped it, or whether a failover left it behind."))
      fault.mayBeCopy = mayBeCopy
      return fault
    }
    guard !facts.journal.isInUse else { return nil }
    return RelayError(
      .slotMissing,
      "slot \"\(settings.slot)\" does not exist in database \"\(facts.database)\", and without a journal it "
        + "cannot be known whether it ever did",
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
      remedy: "Set another name under postgres.slot, or drop it if it is nobody's: "
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
    let since = checkpoint ?? slot.confirmedFlushLSN
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
          + "server has not noticed yet that it is gone, and ends it \(timeout)",
        remedy: "None is needed. To go on at once: SELECT pg_terminate_backend(\(formerBackend));")
    }
    return PostgresFailure.slotActive(slot: settings.slot, pid: slot.activePID, code: nil)
  }

  private var movedSlotFault: RelayError? {
    guard let checkpoint, let confirmed = facts.slot?.confirmedFlushLSN, confirmed > checkpoint else {
      return nil
    }
    return RelayError(
      .slotMoved,
      "slot \"\(settings.slot)\" stands at \(confirmed), beyond checkpoint \(checkpoint): somebody else read "
        + "from it, moved it or created it anew, and what was committed after \(checkpoint) up to \(confirmed) "
        + "is in doubt",
      remedy: GapRemedy.recover)
  }

  private var walLevelFault: RelayError? {
    guard facts.walLevel != "logical" else { return nil }
    return RelayError(
      .serverUnsuitable, "the server's wal_level is \"\(facts.walLevel)\", not \"logical\"",
      remedy: PostgresFailure.walLevelRemedy)
  }
}
