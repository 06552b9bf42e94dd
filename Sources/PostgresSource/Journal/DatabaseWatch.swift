// Owns: the second connection while the relay runs: writes the journal, measures the slot, guards the
// publication. Lives on the keeper's thread.
// Must not know: the stream, Kafka.
import CLibpq
import CSystem
import Glibc
import RelayCore
import Synchronization

/// The keeper's thread. Everything in it is made there and stays there.
struct DatabaseWatch {
  private let keeper: JournalKeeper
  private var connection: SQLConnection?
  /// Where it leads to.
  private var server: ServerIdentity?
  /// Short also in the end: a server that shuts down ends the connections one by one, and while there is none it tells
  /// only those who ask for one.
  private var backOff = BackOff(first: 500, limit: 2_000)
  private var sessions: UInt64 = 0
  /// The connection was lost, and no attempt was made yet to have another.
  private var wasLost = false
  private var told: (reason: String, time: MonotonicTime)?
  private var connectTime = MonotonicTime(nanoseconds: 0)
  private var statusTime = MonotonicTime(nanoseconds: 0)
  private var publicationTime = MonotonicTime(nanoseconds: 0)
  /// When the publication was last found whole.
  private var publicationSeen = MonotonicTime(nanoseconds: 0)
  private var historyTime = MonotonicTime(nanoseconds: 0)
  private var pruneTime = MonotonicTime(nanoseconds: 0)
  private var lastWrite = MonotonicTime(nanoseconds: 0)
  private var deliveredAtLastWrite: UInt64 = 0
  private var walStatus = ""
  private var hasLookedForAnchor = false
  /// Published as far as everything visible in it goes.
  private var provenSnapshot: ProvenSnapshot?
  /// Proven once a checkpoint has reached its position.
  private var nextSnapshot: ProvenSnapshot?
  private var snapshotSession: JournalKeeper.Session?

  // All in milliseconds.
  private static let tellInterval = 60_000
  private static let writeInterval = 1_000
  /// An idle stream moves a little by the journal's own writes. Writing at once each time would never end.
  private static let idleWriteInterval = 10_000
  private static let idleBytes: UInt64 = 256 * 1024
  private static let historyInterval = 10_000
  private static let pruneInterval = 3_600_000

  init(_ keeper: JournalKeeper) { self.keeper = keeper }

  mutating func run() {
    while !keeper.end.isRequested {
      let now = MonotonicTime.now()
      do throws(RelayError) {
        let sessions = keeper.sessionCount
        if sessions != self.sessions {
          self.sessions = sessions
          backOff.reset()
          connectTime = now
          publicationSeen = now
        }
        if let session = keeper.session { try turn(session, now) }
      } catch {
        handle(error)
      }
      wait()
    }
  }

  /// Sleeps until something is due, somebody waits, or the server speaks, which on an idle connection
  /// means that it hangs up.
  private mutating func wait() {
    var entries = (
      pollfd(fd: keeper.wakeDescriptor, events: Int16(POLLIN), revents: 0),
      pollfd(fd: keeper.end.descriptor, events: Int16(POLLIN), revents: 0),
      pollfd(fd: connection.map { PQsocket($0.handle) } ?? -1, events: Int16(POLLIN), revents: 0)
    )
    withUnsafeMutableBytes(of: &entries) { bytes in
      // SAFETY: a tuple of three pollfd is laid out as an array of three; it lives for the call.
      _ = poll(bytes.baseAddress?.assumingMemoryBound(to: pollfd.self), 3, 250)
    }
    keeper.drainWake()
    guard entries.2.revents != 0, let connection, !keeper.end.isRequested else { return }
    if let end = connection.end() { handle(end) }
  }

  private mutating func connect(to server: ServerIdentity) throws(RelayError) {
    do throws(RelayError) {
      let new = try SQLConnection(
        keeper.settings.on(server), applicationName: "outboxd journal", stop: keeper.end)
      let journal = CheckpointJournal(connection: new, slot: keeper.settings.slot)
      if keeper.keepsJournal { try journal.requireTrust() }
      try journal.boundStatements()
      connection = new
      self.server = server
      wasLost = false
      backOff.succeeded()
    } catch {
      connectTime = MonotonicTime.now().advanced(milliseconds: backOff.delay())
      throw error
    }
  }

  private mutating func turn(_ session: JournalKeeper.Session, _ now: MonotonicTime) throws(RelayError) {
    // The stream has gone on to another server.
    if session.server != server { connection = nil }
    if connection == nil, now >= connectTime || keeper.someoneWaits { try connect(to: session.server) }
    guard let connection else { return }
    // Before the journal, which may be locked.
    if now >= statusTime {
      statusTime = now.advanced(milliseconds: SlotReading.interval)
      try measure(connection)
      try lookForAnchor(connection)
    }
    try writeIfDue(connection, session, now)
    try settleIfAsked(connection, session)
    let look = keeper.wantedLook
    // A session that has begun meanwhile may have asked.
    guard let newest = keeper.session, newest.server == server else { return }
    if look != nil || now >= publicationTime {
      publicationTime = now.advanced(milliseconds: keeper.publicationInterval)
      try guardPublication(connection, newest)
      if let look { keeper.looked(look) }
    }
    tellRecovery()
  }
}

// The journal.
extension DatabaseWatch {
  private mutating func writeIfDue(
    _ connection: SQLConnection, _ session: JournalKeeper.Session, _ now: MonotonicTime
  ) throws(RelayError) {
    // What a session that has begun meanwhile wants written may be of another server.
    guard let lsn = keeper.pending, keeper.session?.server == server else { return }
    let delivered = keeper.metrics.eventsDelivered.load(ordering: .relaxed)
    let hasNews =
      delivered != deliveredAtLastWrite
      || lsn.rawValue &- keeper.durableLSN.rawValue >= Self.idleBytes
    let interval = hasNews ? Self.writeInterval : Self.idleWriteInterval
    guard keeper.someoneWaits || now >= lastWrite.advanced(milliseconds: interval) else { return }
    let journal = CheckpointJournal(connection: connection, slot: keeper.settings.slot)
    try prove(lsn, session, journal)
    let checkpoint = Checkpoint(
      lsn: lsn, systemIdentifier: session.systemIdentifier, timeline: session.timeline)
    try journal.write(checkpoint, snapshot: provenSnapshot, creates: false)
    keeper.written(lsn, in: session)
    lastWrite = now
    deliveredAtLastWrite = delivered
    if now >= historyTime {
      historyTime = now.advanced(milliseconds: Self.historyInterval)
      try journal.appendHistory(checkpoint, snapshot: provenSnapshot)
    }
    if now >= pruneTime {
      pruneTime = now.advanced(milliseconds: Self.pruneInterval)
      try journal.pruneHistory(window: keeper.settings.replayWindow)
    }
  }

  private func settleIfAsked(
    _ connection: SQLConnection, _ session: JournalKeeper.Session
  ) throws(RelayError) {
    guard let lsn = keeper.settling else { return }
    let checkpoint = Checkpoint(
      lsn: lsn, systemIdentifier: session.systemIdentifier, timeline: session.timeline)
    try CheckpointJournal(connection: connection, slot: keeper.settings.slot).settle(
      keeper.run, at: checkpoint)
    keeper.settled()
  }

  private mutating func prove(
    _ lsn: LSN, _ session: JournalKeeper.Session, _ journal: CheckpointJournal
  ) throws(RelayError) {
    if snapshotSession?.systemIdentifier != session.systemIdentifier
      || snapshotSession?.timeline != session.timeline
    {
      snapshotSession = session
      provenSnapshot = nil
      nextSnapshot = nil
    }
    if let next = nextSnapshot {
      guard lsn >= next.lsn else { return }
      // Asked after the snapshot was taken: what is visible in it was committed under the publication of the start.
      let inspector = SlotInspector(connection: journal.connection, settings: keeper.settings)
      if session.publication != nil {
        guard let now = try inspector.publicationIdentity(),
          session.change(to: now, of: keeper.settings.publication)?.isWhole == true
        else {
          publicationTime = MonotonicTime(nanoseconds: 0)
          return
        }
      }
      provenSnapshot = next
    }
    nextSnapshot = try journal.snapshot()
  }
}

// The watch.
extension DatabaseWatch {
  private mutating func measure(_ connection: SQLConnection) throws(RelayError) {
    let metrics = keeper.metrics
    guard let reading = try SlotReading.read(slot: keeper.settings.slot, on: connection) else {
      metrics.slot = SlotReading()
      return
    }
    metrics.slot = reading
    guard let status = reading.walStatus, status != walStatus else { return }
    walStatus = status
    if walStatus == "unreserved" || walStatus == "lost" {
      keeper.log.warning(
        "the slot is about to lose its WAL", ("slot", keeper.settings.slot), ("wal_status", walStatus),
        ("retained_bytes", reading.retainedBytes.map(String.init) ?? "unknown"),
        ("remedy", "Raise max_slot_wal_keep_size, and let the relay catch up."))
    }
  }

  /// A window that was switched off leaves its anchor behind, which nobody moves on any more.
  private mutating func lookForAnchor(_ connection: SQLConnection) throws(RelayError) {
    guard !hasLookedForAnchor, keeper.settings.replayWindow == nil else { return }
    hasLookedForAnchor = true
    let name = ReplaySlots.anchor(of: keeper.settings.slot)
    guard let anchor = try SlotReading.read(slot: name, on: connection) else { return }
    keeper.log.warning(
      "replay.window is off, but the anchor still exists and holds WAL on the server until it is dropped",
      ("slot", name), ("retained_bytes", anchor.retainedBytes.map(String.init) ?? "unknown"),
      ("remedy", "outboxd slot drop-anchor"))
  }

  private mutating func guardPublication(
    _ connection: SQLConnection, _ session: JournalKeeper.Session
  ) throws(RelayError) {
    let check = try publicationCheck(connection, session)
    if let fault = fault(check, session) { return keeper.post(fault) }
    guard let publication = check.publication else { return }
    let record = publication.record(
      after: session.publication, passed: keeper.durableLSN,
      joined: .joining(after: provenSnapshot?.text, at: provenSnapshot?.lsn))
    // Never at a fault: the next start, too, must see that something may have been left out.
    if keeper.keepsJournal, record != session.publication {
      try CheckpointJournal(connection: connection, slot: keeper.settings.slot)
        .writePublication(record, of: session.systemIdentifier)
    }
    keeper.note(record, seenAt: publication.seenAt, in: session)
    publicationSeen = .now()
  }

  private func publicationCheck(
    _ connection: SQLConnection, _ session: JournalKeeper.Session
  ) throws(RelayError) -> PublicationCheck {
    let inspector = SlotInspector(connection: connection, settings: keeper.settings)
    let (publication, tables) = try inspector.outboxes(keeper.mappings, since: session.publication)
    return PublicationCheck(
      name: keeper.settings.publication, publication: publication, tables: tables, mappings: keeper.mappings,
      before: session.publication)
  }

  private func fault(_ check: PublicationCheck, _ session: JournalKeeper.Session) -> RelayError? {
    let isWatched =
      MonotonicTime.now() <= publicationSeen.advanced(milliseconds: 2 * keeper.publicationInterval)
    return check.fault
      ?? check.publication.flatMap {
        session.change(to: $0, of: keeper.settings.publication, isWatched: isWatched)?
          .fault(since: session.seenAt)
      }
  }
}

// Failures.
extension DatabaseWatch {
  private mutating func handle(_ error: RelayError) {
    guard error.kind != .interrupted else { return }
    if keeper.pending != nil { keeper.metrics.journalFailures.add(1, ordering: .relaxed) }
    keeper.failed()
    let code = error.code ?? ""
    if error.invalidatesStart || error.kind == .journalUnusable {
      // Only a start can judge it.
      keeper.post(error)
    } else if connection != nil, code.hasPrefix("42") || code == "3F000" {
      // The tables or the rights on them are gone: without them nothing could be confirmed any more.
      keeper.post(
        RelayError(
          .journalUnusable, error.message, code: error.code,
          remedy: "Run what outboxd init prints (schema, tables and grants), or set postgres.journal: off."))
    } else if connection == nil, error.meansServerEnds || (wasLost && error.code == nil) {
      // A server that shuts down waits until the slot has confirmed everything, and the journal that must come
      // first can no longer be written: only the end of the stream lets the server go.
      keeper.post(error)
    }
    tell(error)
    guard connection != nil else {
      wasLost = false
      return
    }
    connection = nil
    wasLost = error.kind == .sourceUnavailable
    // Tried again at once: whether that succeeds tells a lost connection from a server that goes.
    connectTime = MonotonicTime.now().advanced(milliseconds: wasLost ? 0 : backOff.delay())
  }

  /// The second connection is there, and so is the journal where something had to be written.
  private mutating func tellRecovery() {
    guard let told, keeper.pending == nil || lastWrite > told.time else { return }
    self.told = nil
    keeper.metrics.watchFault = nil
    keeper.log.notice(
      "the second connection, for journal and watch, is restored", ("slot", keeper.settings.slot))
  }

  private mutating func tell(_ error: RelayError) {
    let now = MonotonicTime.now()
    keeper.metrics.watchFault = error.message
    if let told, told.reason == error.message, now < told.time.advanced(milliseconds: Self.tellInterval) {
      return
    }
    told = (error.message, now)
    let codeField: [Log.Field] = error.code.map { [("code", $0)] } ?? []
    keeper.log.write(
      .warning, "the second connection, for journal and watch, failed",
      [("slot", keeper.settings.slot), ("reason", error.message)] + codeField)
  }
}
