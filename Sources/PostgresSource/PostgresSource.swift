// Owns: the way from a conninfo to a running stream: connect, inspect, decide, create, start. START HERE.
// Must not know: Kafka, the loop.
public import RelayCore

public enum PostgresSource {
  /// Connects, judges the server, creates the slot if that is safe, and starts the stream.
  /// - Parameters:
  ///   - keeper: the journal of the process; nil for a stream that keeps no checkpoint.
  ///   - resume: where this process had got to before it lost the connection (`ReplicationStream.checkpoint`).
  /// - Throws: `slotActive` at once when another process streams from the slot; every other kind of the source
  ///   side; `interrupted` when a stop was requested.
  public static func open(
    settings: PostgresSettings, mappings: [OutboxMapping], keeper: JournalKeeper?, resume: Checkpoint? = nil,
    stop: StopSignal, log: Log
  ) throws(RelayError) -> ReplicationStream {
    let (facts, start, journal) = try prepare(
      settings: settings, mappings: mappings, keeper: keeper, resume: resume, stop: stop, log: log)
    let checkpoint = facts.checkpoint(at: start)
    let (connection, identity) = try stream(from: start, facts, settings: settings, stop: stop)
    var former: FormerRun?
    if let keeper, let journal { former = try journal.begin(keeper.run, in: checkpoint) }
    keeper?.begin(checkpoint, facts, backend: connection.backend)
    log.notice(
      "streaming", ("slot", settings.slot), ("lsn", "\(start)"), ("host", connection.sql.reached),
      ("database", facts.database), ("server", version(facts.serverVersion)),
      ("timeline", String(facts.timeline)),
      ("journal", facts.journal.isInUse ? "on" : "off"))
    return ReplicationStream(
      connection, facts: facts, settings: settings, mappings: mappings, startLSN: start,
      walEnd: identity.walEnd,
      keeper: keeper, former: former)
  }

  /// Starts the stream on a connection that has run nothing else: a walsender that has looked at the catalog of today
  /// decodes older changes with it, and leaves out the rows of a publication that was created again since.
  static func stream(
    from start: LSN, _ facts: ServerFacts, settings: PostgresSettings, stop: StopSignal
  ) throws(RelayError) -> (ReplicationConnection, ReplicationConnection.Identity) {
    let connection = try ReplicationConnection(settings.on(facts.server), stop: stop)
    let identity = try connection.identifySystem()
    try connection.start(at: start)
    return (connection, identity)
  }

  /// Judges the server, creates the slot if that is safe, and has the journal, where it is in use, know the start.
  private static func prepare(
    settings: PostgresSettings, mappings: [OutboxMapping], keeper: JournalKeeper?, resume: Checkpoint?,
    stop: StopSignal, log: Log
  ) throws(RelayError) -> (facts: ServerFacts, start: LSN, journal: CheckpointJournal?) {
    let connection = try ReplicationConnection(settings, stop: stop)
    let facts = try inspect(
      connection, settings: settings, mappings: mappings, resume: resume, known: keeper?.session?.publication)
    let decision = StartDecision(
      facts: facts, settings: settings, mappings: mappings, resume: resume,
      formerBackend: keeper?.session?.backend)
    let action = try decision.decide()
    report(decision, isFirst: resume == nil, to: log)
    let isJournaled = keeper != nil && facts.journal.isInUse
    let journal = isJournaled ? CheckpointJournal(connection: connection.sql, slot: settings.slot) : nil
    let start: LSN
    // From here on a slot that vanishes is noticed.
    switch action {
    case .start(let lsn):
      start = lsn
      if let journal { try remember(lsn, decision, in: journal, connection.sql, log: log) }
    case .createSlot:
      log.notice(
        "creating the slot: waiting until the transactions that run now have ended",
        ("slot", settings.slot), ("database", facts.database))
      let new = try connection.createSlot(
        settings: settings.on(facts.server), stop: stop, log: log, metrics: keeper?.metrics)
      log.notice("created the slot", ("slot", settings.slot), ("lsn", "\(new.lsn)"))
      start = new.lsn
      if let journal {
        try journal.boundStatements()
        try journal.begin(
          new, in: facts.checkpoint(at: start), publication: facts.publication?.record(ofSlotAt: start))
        try journal.rememberOrigin()
      }
    }
    if let keeper, isJournaled { createAnchor(connection.sql, keeper, checkpoint: start, log: log) }
    return (facts, start, journal)
  }

  private static func report(_ decision: StartDecision, isFirst: Bool, to log: Log) {
    if let finding = decision.facts.publication?.ownerFinding(of: decision.settings.publication) {
      log.warning(finding)
    }
    for finding in decision.findings where finding.level == .warning { log.warning(finding) }
    // Once: it is the same at each connection of a process.
    if isFirst, let warning = decision.facts.transport?.warning { log.warning(warning) }
  }

  /// The journal knows where the stream starts, and of which tables.
  private static func remember(
    _ start: LSN, _ decision: StartDecision, in journal: CheckpointJournal, _ connection: SQLConnection,
    log: Log
  ) throws(RelayError) {
    let (facts, settings) = (decision.facts, decision.settings)
    try journal.boundStatements()
    try journal.write(facts.checkpoint(at: start), snapshot: nil)
    try journal.writePublication(facts.publicationRecord(at: start), of: facts.systemIdentifier)
    let members = facts.publicationRecord.map { Set($0.members.keys) }
    let joined = decision.mappings.filter { mapping in
      guard let members, let table = facts.table(mapping.schema, mapping.table) else { return false }
      return !members.contains(table.oid)
    }
    if !joined.isEmpty {
      let rows = EarlierRows(connection: connection, facts: facts, settings: settings)
      for finding in try rows.findings(joined) { log.warning(finding) }
    }
    try journal.rememberOrigin()
  }

  /// Reads everything that decides about a start, and who could do what to the relay; moves nothing.
  public static func inspect(
    settings: PostgresSettings, mappings: [OutboxMapping], stop: StopSignal
  ) throws(RelayError) -> ServerFacts {
    let connection = try ReplicationConnection(settings, stop: stop)
    var facts = try inspect(connection, settings: settings, mappings: mappings, resume: nil)
    facts.role = try SlotInspector(connection: connection.sql, settings: settings).role()
    if settings.journal != .off {
      facts.journalTrust = try CheckpointJournal(connection: connection.sql, slot: settings.slot).trust()
    }
    return facts
  }

  /// The order counts: the slot before the journal, and the journal before the end of the WAL, each of which
  /// another relay may move meanwhile.
  private static func inspect(
    _ connection: ReplicationConnection, settings: PostgresSettings, mappings: [OutboxMapping],
    resume: Checkpoint?, known: PublicationRecord? = nil
  ) throws(RelayError) -> ServerFacts {
    let inspector = SlotInspector(connection: connection.sql, settings: settings)
    let slot = try inspector.slot()
    let keeper = CheckpointJournal(connection: connection.sql, slot: settings.slot)
    let journal = try keeper.facts(mode: settings.journal)
    let identity = try connection.identifySystem()
    var facts = try inspector.serverFacts(identity)
    facts.slot = slot
    facts.transport = connection.sql.transport
    facts.journal = journal == .empty ? try keeper.withoutRow(identity.systemIdentifier) : journal
    (facts.publication, facts.tables) = try inspector.outboxes(
      mappings, since: journal.row?.publication ?? known)
    facts.timeZone = try inspector.timeZone()
    var timelines = resume.map { [$0.timeline] } ?? []
    if let row = facts.journal.row { timelines.append(row.checkpoint.timeline) }
    if timelines.contains(where: { $0 != identity.timeline }) {
      facts.timelineHistory = try connection.timelineHistory(identity.timeline)
    }
    return facts
  }

  /// `15.20`, from 150020.
  public static func version(_ number: Int) -> String { "\(number / 10_000).\(number % 10_000)" }
}
