// Owns: the upkeep of the anchor slot while the relay runs, on a thread and a connection of its own: an advance
// reads WAL for seconds, and the journal must not wait for it.
// Must not know: the stream, Kafka.
import Glibc
import RelayCore
import Synchronization

/// Everything in it is made on its thread and stays there.
struct ReplayAnchor {
  private let keeper: JournalKeeper
  private let window: Int
  private let name: String
  private var connection: SQLConnection?
  /// Where it leads to.
  private var server: ServerIdentity?
  private var connectTime = MonotonicTime(nanoseconds: 0)
  private var backOff = BackOff(first: 1000, limit: 60_000)
  private var windowTime = MonotonicTime(nanoseconds: 0)
  private var windowStart: LSN?
  private var settledAt: LSN?
  private var touchTime = MonotonicTime(nanoseconds: 0)
  private var mustTouch = false
  /// Consecutive advances that took too long.
  private var slowAdvances = 0
  /// What was warned of, once each.
  private var warned: Set<String> = []

  // All in milliseconds.
  private static let windowInterval = 60_000
  private static let statementTimeout = 60_000
  private static let slowAdvanceLimit = 3

  /// - Parameter window: in seconds.
  init(_ keeper: JournalKeeper, window: Int) {
    self.keeper = keeper
    self.window = window
    name = ReplaySlots.anchor(of: keeper.settings.slot)
  }

  mutating func run() {
    while !keeper.end.isRequested {
      let isBusy: Bool
      do throws(RelayError) {
        isBusy = try turn()
      } catch {
        isBusy = false
        handle(error)
      }
      keeper.end.wait(milliseconds: isBusy ? 0 : keeper.anchorInterval)
    }
  }

  /// - Returns: true where there is more to be done at once.
  private mutating func turn() throws(RelayError) -> Bool {
    guard let session = keeper.session else { return false }
    guard let connection = try connected(to: session.server) else { return false }
    if !keeper.mailbox.keepsJournal {
      warnOnce(
        "there is no replay window: it needs the journal",
        remedy: "Run what outboxd init prints (schema, tables and grants).")
    }
    let facts = try read(connection, session)
    publish(facts)
    let decision = AnchorDecision(facts: facts, maxBytes: keeper.settings.replayMaxBytes)
    if !decision.isOurs {
      warnOnce(
        "there is no replay window: slot \"\(name)\" is not a slot of outboxd's",
        remedy: "SELECT * FROM pg_replication_slots WHERE slot_name = \(SQLText.literal(name));")
    }
    if decision.lacksRoom {
      let room = AnchorDecision.leastRoom(keepSize: facts.keepSize)
      warnOnce(
        "there is no replay window: max_slot_wal_keep_size leaves the slot less than \(room) bytes",
        remedy: "Raise max_slot_wal_keep_size, or set replay.window: off.")
    }
    return try perform(decision.decide(), facts, connection)
  }

  private mutating func connected(to server: ServerIdentity) throws(RelayError) -> SQLConnection? {
    if let connection, self.server == server { return connection }
    connection = nil
    guard MonotonicTime.now() >= connectTime else { return nil }
    connectTime = MonotonicTime.now().advanced(milliseconds: backOff.delay())
    let new = try SQLConnection(
      keeper.settings.on(server), applicationName: "outboxd anchor", stop: keeper.end)
    try new.query("SELECT set_config('statement_timeout', '\(Self.statementTimeout)', false)")
    connection = new
    self.server = server
    backOff.succeeded()
    return new
  }
}

// Facts.
extension ReplayAnchor {
  private mutating func read(
    _ connection: SQLConnection, _ session: WatchedSession
  ) throws(RelayError) -> AnchorFacts {
    let reading = try AnchorSlot(connection: connection, settings: keeper.settings).read()
    var facts = reading.facts
    if keeper.mailbox.keepsJournal {
      try readJournal(into: &facts, connection, session, time: reading.time)
    }
    facts.sinceDrop = keeper.sinceAnchorDrop
    facts.settledAt = settledAt
    facts.mustTouch = mustTouch && MonotonicTime.now() >= touchTime
    mustTouch = reading.hasIdleLimit
    return facts
  }

  private mutating func readJournal(
    into facts: inout AnchorFacts, _ connection: SQLConnection, _ session: WatchedSession,
    time: PostgresMicroseconds
  ) throws(RelayError) {
    let slot = keeper.settings.slot
    let journal = CheckpointJournal(connection: connection, slot: slot)
    let journalFacts = try journal.facts(mode: keeper.settings.journal)
    guard journalFacts.isInUse else { throw RelayError(.journalUnusable, "the journal cannot be used") }
    facts.checkpoint = journalFacts.row?.checkpoint.lsn
    let history = CheckpointHistory(
      connection: connection, slot: slot, systemIdentifier: session.systemIdentifier,
      timeline: session.timeline)
    let now = MonotonicTime.now()
    if now >= windowTime {
      windowTime = now.advanced(milliseconds: 12 * keeper.anchorInterval)
      windowStart = try history.newest(atOrBefore: time - Int64(window) * 1_000_000)?.lsn
    }
    facts.windowStart = windowStart
    let maxBytes = keeper.settings.replayMaxBytes
    if let anchor = facts.anchor,
      AnchorDecision(facts: facts, maxBytes: maxBytes).retained(by: anchor) > maxBytes
    {
      // A quarter is left for what is written until the next time.
      let kept = maxBytes - maxBytes / 4
      let start = LSN(facts.walEnd.rawValue - min(kept, facts.walEnd.rawValue))
      facts.bytesStart = try history.oldest(atOrAbove: start)?.lsn
    }
  }

  private func publish(_ facts: AnchorFacts) {
    let retained = facts.anchor?.restartLSN.map { restart in
      facts.walEnd > restart ? facts.walEnd.rawValue - restart.rawValue : 0
    }
    keeper.metrics.anchor = AnchorReading(
      retainedBytes: retained.map { Int64(clamping: $0) }, lsn: facts.anchor?.confirmedFlushLSN)
  }
}

// Actions.
extension ReplayAnchor {
  private mutating func perform(
    _ action: AnchorAction, _ facts: AnchorFacts, _ connection: SQLConnection
  ) throws(RelayError) -> Bool {
    switch action {
    case .leave: return false
    case .create:
      try create(connection)
      return false
    case .advance(let lsn): return try advance(to: lsn, facts, connection)
    case .drop(let reason):
      try drop(reason, connection)
      return false
    }
  }

  private mutating func create(_ connection: SQLConnection) throws(RelayError) {
    // Until it is there, it counts as given up: a server that has no slot left is not asked all the time.
    keeper.anchorDropTime = .now()
    try AnchorSlot(connection: connection, settings: keeper.settings).create(keeper.log)
    keeper.anchorDropTime = nil
    settledAt = nil
  }

  private mutating func advance(
    to lsn: LSN, _ facts: AnchorFacts, _ connection: SQLConnection
  ) throws(RelayError) -> Bool {
    let end: LSN?
    do throws(RelayError) {
      end = try connection.query(
        "SELECT end_lsn FROM pg_replication_slot_advance(\(SQLText.literal(name)), '\(lsn)')",
        timeout: Self.statementTimeout + 5_000)[0, "end_lsn"].flatMap { LSN($0) }
    } catch  where error.code == "57014" {
      slowAdvances += 1
      guard slowAdvances >= Self.slowAdvanceLimit else { return false }
      slowAdvances = 0
      try drop("it could not be advanced within \(Self.statementTimeout / 1000) s", connection)
      return false
    }
    slowAdvances = 0
    touchTime = MonotonicTime.now().advanced(milliseconds: Self.windowInterval)
    keeper.log.debug("advanced the anchor", ("slot", name), ("lsn", "\(lsn)"))
    let position = facts.anchor?.confirmedFlushLSN ?? .zero
    if let end, end > position { return true }
    let isSettled = settledAt == position
    settledAt = position
    return !isSettled
  }

  private mutating func drop(_ reason: String, _ connection: SQLConnection) throws(RelayError) {
    try connection.query("SELECT pg_drop_replication_slot(\(SQLText.literal(name)))")
    keeper.anchorDropTime = .now()
    settledAt = nil
    keeper.metrics.anchor = AnchorReading()
    keeper.log.warning(
      "dropped the anchor: no WAL can be replayed until a new anchor has collected some", ("slot", name),
      ("reason", reason),
      ("remedy", "Lower replay.window or replay.max_bytes, or raise max_slot_wal_keep_size."))
  }

  private mutating func warnOnce(_ message: String, remedy: String) {
    guard warned.insert(message).inserted else { return }
    keeper.log.warning("\(message)", ("slot", keeper.settings.slot), ("remedy", remedy))
  }

  private mutating func handle(_ error: RelayError) {
    switch error.kind {
    case .interrupted: return
    // It is being copied, or somebody else moves it: the next turn finds out.
    case .slotActive: return
    default: break
    }
    keeper.log.error("the anchor could not be advanced or examined", error, level: .warning)
    connection = nil
  }
}
