// Owns: planning a replay and opening its range of WAL, on connections of their own.
// Must not know: Kafka, the loop, the command line.
public import RelayCore

extension PostgresSource {
  /// Reads what the server still has, and decides what a replay of the range is read from. Moves nothing.
  /// - Parameters:
  ///   - to: nil: everything that was published when this is called.
  ///   - origin: nil: the WAL where it has the whole range, else the tables.
  /// - Throws: `usage` where the range makes no sense; `replayUnavailable`, with the lowest place that can be had,
  ///   where nothing has the range; `slotMissing`, `journalUnusable`, `systemIdentifierChanged`, `timelineDiverged`;
  ///   and what connections throw.
  public static func planReplay(
    settings: PostgresSettings, mappings: [OutboxMapping], from: ReplayPlace, to: ReplayPlace?,
    origin: ReplayOrigin?, stop: StopSignal
  ) throws(RelayError) -> ReplayPlan {
    let connection = try ReplicationConnection(settings, stop: stop)
    var planner = ReplayPlanner(
      facts: try replayFacts(connection, settings: settings), from: from, to: to)
    try planner.check()
    if let history = history(of: planner.facts, connection) {
      if case .time(let time) = from { planner.facts.fromRow = try history.newest(atOrBefore: time) }
      if case .time(let time)? = to { planner.facts.timeEnd = try history.position(after: time) }
      let start = try planner.start()
      planner.facts.snapshotRow = try history.newest(withSnapshotAtOrBelow: start)
      planner.facts.endTransaction = try history.endTransaction(through: try planner.through(start))
    }
    return try planner.plan(origin: origin)
  }

  /// The slot that keeps WAL for replay, as it is now. Nil: there is none.
  static func anchor(settings: PostgresSettings, stop: StopSignal) throws(RelayError) -> SlotFacts? {
    let connection = try SQLConnection(settings, applicationName: "outboxd recover", stop: stop)
    return try SlotInspector(connection: connection, settings: settings)
      .slot(named: ReplaySlots.anchor(of: settings.slot))
  }

  /// What holds for every range. The slots come before the end of the WAL, which may move on meanwhile.
  static func replayFacts(
    _ connection: ReplicationConnection, settings: PostgresSettings
  ) throws(RelayError) -> ReplayFacts {
    let inspector = SlotInspector(connection: connection.sql, settings: settings)
    let main = try inspector.slot()
    let anchor = try inspector.slot(named: ReplaySlots.anchor(of: settings.slot))
    let journal = try CheckpointJournal(connection: connection.sql, slot: settings.slot)
      .facts(mode: settings.journal)
    let time = try connection.sql.query(
      "SELECT (extract(epoch FROM clock_timestamp() - timestamptz '2000-01-01 00:00:00+00') * 1000000)::bigint AS t"
    )
    let identity = try connection.identifySystem()
    var facts = ReplayFacts(
      slot: settings.slot, systemIdentifier: identity.systemIdentifier, timeline: identity.timeline,
      walEnd: identity.walEnd, now: time[0, "t"].flatMap { Int64($0) } ?? postgresNow(), main: main,
      anchor: anchor, journal: journal)
    if let history = history(of: facts, connection) {
      if let position = anchor?.confirmedFlushLSN {
        facts.anchorRow = try history.oldest(atOrAbove: position)
      }
      facts.oldestSnapshot = try history.oldestWithSnapshot()
    }
    return facts
  }

  static func history(of facts: ReplayFacts, _ connection: ReplicationConnection) -> CheckpointHistory? {
    guard facts.journal.isInUse else { return nil }
    return CheckpointHistory(
      connection: connection.sql, slot: facts.slot, systemIdentifier: facts.systemIdentifier,
      timeline: facts.timeline)
  }
}

// The range.
extension PostgresSource {
  /// Copies the anchor to a temporary slot, and starts a stream of the plan's range on it.
  /// - Parameter position: of `BoundedSource.position(after:)`; nil: from the beginning.
  /// - Throws: `replayUnavailable`, `sourceUnavailable`, `systemIdentifierChanged`, `timelineDiverged`, `usage`
  ///   where `position` is none.
  public static func openRange(
    _ plan: ReplayPlan, resume position: String?, settings: PostgresSettings, mappings: [OutboxMapping],
    stop: StopSignal, log: Log
  ) throws(RelayError) -> RangeStream {
    guard let reached = position.map({ LSN($0) }) ?? plan.from, reached >= plan.from else {
      throw RelayError(.usage, "\"\(position ?? "")\" is not a position of a replay from \(plan.from)")
    }
    let watcher = try ReplicationConnection(settings, stop: stop)
    let facts = try replayFacts(watcher, settings: settings)
    try ReplayPlanner(facts: facts, from: .lsn(plan.from), to: .lsn(plan.through)).check()
    var temporary = settings
    temporary.slot = ReplaySlots.temporary(of: settings.slot)
    let connection = try ReplicationConnection(temporary, stop: stop)
    let identity = try connection.identifySystem()
    try copyAnchor(to: temporary.slot, on: connection, facts, from: reached)
    // A range that begins below the slot's position would be served from there without a word.
    let copy = try SlotInspector(connection: watcher.sql, settings: temporary).slot()
    guard let copy, let lowest = copy.confirmedFlushLSN, lowest <= reached else {
      throw gone(facts, from: reached, copy?.confirmedFlushLSN.map { "the WAL is kept from \($0) on now" })
    }
    var served = try SlotInspector(connection: watcher.sql, settings: settings).serverFacts(identity)
    let idle = try SQLConnection(settings, applicationName: "outboxd replay", stop: stop)
    try connection.start(at: reached)
    log.info(
      "replaying from the WAL", ("slot", temporary.slot), ("from", "\(reached)"),
      ("through", "\(plan.through)"))
    served.journal = facts.journal
    served.publication = try SlotInspector(connection: watcher.sql, settings: settings).publicationIdentity()
    return RangeStream(
      ReplicationStream(
        connection, facts: served, settings: temporary, mappings: mappings, startLSN: reached,
        walEnd: identity.walEnd, keeper: nil),
      origin: plan.from, through: plan.through, anchor: ReplaySlots.anchor(of: settings.slot), watcher: idle)
  }

  /// Nothing else runs on this connection: see `open`. A temporary slot belongs to the session that makes it.
  private static func copyAnchor(
    to name: String, on connection: ReplicationConnection, _ facts: ReplayFacts, from: LSN
  ) throws(RelayError) {
    let anchor = ReplaySlots.anchor(of: facts.slot)
    if let reason = ReplayPlanner(facts: facts, from: .lsn(from), to: nil).walReason(from) {
      throw gone(facts, from: from, reason)
    }
    do throws(RelayError) {
      try connection.sql.query(
        "SELECT pg_catalog.pg_copy_logical_replication_slot(\(SQLText.literal(anchor)), \(SQLText.literal(name)), true)"
      )
    } catch {
      switch error.code {
      case "42704", "55000", "0A000": throw gone(facts, from: from, error.message)
      case "53400":
        throw RelayError(
          .sourceUnavailable, "a replay needs its own replication slot, and no slot is free",
          code: error.code,
          remedy: "Raise max_replication_slots (needs a restart), or drop a slot that is not used: "
            + "outboxd slot show.")
      default: throw error
      }
    }
  }

  private static func gone(_ facts: ReplayFacts, from: LSN, _ reason: String?) -> RelayError {
    RelayError(
      .replayUnavailable, "the WAL from \(from) on is no longer available: \(reason ?? "its slot is gone")",
      remedy:
        "Replay the rest from the tables: outboxd replay --source table --from \(from), with the same options."
    )
  }
}
