// Owns: what an operator sees of anchor, replay window, growth of the WAL and unfinished jobs; and dropping the anchor.
// Must not know: how it is printed.
public import RelayCore

/// One of the slots that belong together.
public struct SlotOverview: Equatable, Sendable {
  public enum Role: String, Sendable { case main, anchor, replay }
  public var name: String
  public var role: Role
  public var facts: SlotFacts
  /// Bytes of WAL that the server keeps for it; nil where that is not known.
  public var retainedBytes: UInt64?

  public init(name: String, role: Role, facts: SlotFacts, retainedBytes: UInt64? = nil) {
    self.name = name
    self.role = role
    self.facts = facts
    self.retainedBytes = retainedBytes
  }
}

/// A replay or backfill that is running, or was broken off.
public struct UnfinishedJob: Equatable, Sendable {
  public var id: Int64
  public var command: String
  public var events: Int64
  public var startedAt: PostgresMicroseconds
  public var updatedAt: PostgresMicroseconds

  public init(
    id: Int64, command: String, events: Int64, startedAt: PostgresMicroseconds,
    updatedAt: PostgresMicroseconds
  ) {
    self.id = id
    self.command = command
    self.events = events
    self.startedAt = startedAt
    self.updatedAt = updatedAt
  }
}

public struct ReplayStatus: Equatable, Sendable {
  /// A place from which a replay is possible, and the time that leads to it, where the journal knows it.
  public struct Reach: Equatable, Sendable {
    public var lsn: LSN
    public var time: PostgresMicroseconds?

    public init(lsn: LSN, time: PostgresMicroseconds? = nil) {
      self.lsn = lsn
      self.time = time
    }
  }

  public var main: SlotOverview?
  public var anchor: SlotOverview?
  public var fromWAL: Reach?
  public var fromTable: Reach?
  /// Bytes of WAL a second, over the last ten minutes or so. Nil: not known.
  public var walRate: UInt64?
  public var jobs: [UnfinishedJob]
  /// The oldest transaction of the cluster, where it may be what keeps the slot's WAL: `restart_lsn` stays before it.
  public var holder: OpenTransaction?

  public init(
    main: SlotOverview? = nil, anchor: SlotOverview? = nil, fromWAL: Reach? = nil, fromTable: Reach? = nil,
    walRate: UInt64? = nil, jobs: [UnfinishedJob] = []
  ) {
    self.main = main
    self.anchor = anchor
    self.fromWAL = fromWAL
    self.fromTable = fromTable
    self.walRate = walRate
    self.jobs = jobs
  }

  /// `max_slot_wal_keep_size` is so small that an anchor would soon be given up: none is made.
  public var leavesNoWindow: Bool {
    main?.facts.safeWALSize.map { $0 < AnchorDecision.leastRoom(keepSize: nil) } ?? false
  }

  /// Seconds until the slot has used up what `max_slot_wal_keep_size` leaves it, at the present rate. Nil: no limit,
  /// no growth, or not known.
  public func secondsLeft(_ slot: SlotOverview?) -> UInt64? {
    guard let safe = slot?.facts.safeWALSize, let walRate, walRate > 0 else { return nil }
    return UInt64(max(0, safe)) / walRate
  }
}

extension PostgresSource {
  /// Reads it. Moves nothing.
  public static func replayStatus(
    settings: PostgresSettings, stop: StopSignal
  ) throws(RelayError) -> ReplayStatus {
    let connection = try ReplicationConnection(settings, stop: stop)
    let facts = try replayFacts(connection, settings: settings)
    let planner = ReplayPlanner(facts: facts, from: .lsn(.zero), to: nil)
    var status = ReplayStatus()
    status.main = facts.main.map {
      overview(settings.slot, .main, $0, walEnd: facts.walEnd)
    }
    status.anchor = facts.anchor.map {
      overview(ReplaySlots.anchor(of: settings.slot), .anchor, $0, walEnd: facts.walEnd)
    }
    if let lsn = planner.lowestOfWAL {
      let time = lsn == facts.anchor?.confirmedFlushLSN ? facts.anchorRow?.recordedAt : nil
      status.fromWAL = .init(lsn: lsn, time: time)
    }
    status.fromTable = planner.tableReach.map { .init(lsn: $0.lsn, time: $0.row?.recordedAt) }
    status.holder = try holder(of: facts.main, connection.sql)
    guard let history = history(of: facts, connection) else { return status }
    if let row = try earlier(history, now: facts.now) {
      let seconds = UInt64(max(1, (facts.now &- row.recordedAt) / 1_000_000))
      status.walRate = (facts.walEnd.rawValue - min(row.lsn.rawValue, facts.walEnd.rawValue)) / seconds
    }
    status.jobs = try jobs(connection.sql, slot: settings.slot)
    return status
  }

  /// Short transactions come and go, and `restart_lsn` follows a little later by itself.
  private static func holder(
    of slot: SlotFacts?, _ connection: SQLConnection
  ) throws(RelayError) -> OpenTransaction? {
    guard let slot, let restart = slot.restartLSN, let confirmed = slot.confirmedFlushLSN, restart < confirmed
    else { return nil }
    guard let oldest = try OpenTransaction.oldest(on: connection) else { return nil }
    if let seconds = oldest.seconds { return seconds >= 10 ? oldest : nil }
    return confirmed.rawValue - restart.rawValue >= 16 << 20 ? oldest : nil
  }

  /// A row of about ten minutes ago: an hour at most, half a minute at least.
  private static func earlier(
    _ history: CheckpointHistory, now: PostgresMicroseconds
  ) throws(RelayError) -> HistoryRow? {
    let minute: Int64 = 60_000_000
    if let row = try history.newest(atOrBefore: now - 10 * minute), row.recordedAt >= now - 60 * minute {
      return row
    }
    let row = try history.oldest(atOrAfter: now - 10 * minute)
    return row.flatMap { $0.recordedAt <= now - minute / 2 ? $0 : nil }
  }

  private static func jobs(_ connection: SQLConnection, slot: String) throws(RelayError) -> [UnfinishedJob] {
    let epoch = "timestamptz '2000-01-01 00:00:00+00'"
    let result = try connection.query(
      """
      SELECT id, command, events, (extract(epoch FROM started_at - \(epoch)) * 1000000)::bigint AS started,
        (extract(epoch FROM updated_at - \(epoch)) * 1000000)::bigint AS updated
      FROM outboxd.job WHERE slot = \(SQLText.literal(slot)) AND finished_at IS NULL ORDER BY id
      """)
    return result.rows.indices.compactMap { row in
      func number(_ column: String) -> Int64? { result[row, column].flatMap { Int64($0) } }
      guard let id = number("id"), let started = number("started"), let updated = number("updated") else {
        return nil
      }
      return UnfinishedJob(
        id: id, command: result[row, "command"] ?? "", events: number("events") ?? 0, startedAt: started,
        updatedAt: updated)
    }
  }

  private static func overview(
    _ name: String, _ role: SlotOverview.Role, _ facts: SlotFacts, walEnd: LSN
  ) -> SlotOverview {
    let retained = facts.restartLSN.map { walEnd > $0 ? walEnd.rawValue - $0.rawValue : 0 }
    return SlotOverview(name: name, role: role, facts: facts, retainedBytes: retained)
  }
}

// Slots.
extension PostgresSource {
  /// The main slot, the anchor, and those of replays that run now, as far as they exist.
  public static func slots(settings: PostgresSettings, stop: StopSignal) throws(RelayError) -> [SlotOverview]
  {
    let connection = try SQLConnection(settings, stop: stop)
    let inspector = SlotInspector(connection: connection, settings: settings)
    let prefix = SQLText.literal(ReplaySlots.temporaryPrefix(of: settings.slot))
    let found = try connection.query(
      """
      SELECT slot_name FROM pg_replication_slots WHERE temporary AND starts_with(slot_name, \(prefix)) ORDER BY slot_name
      """)
    let end = try connection.query(
      "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END AS wal_end"
    )
    let walEnd = end[0, "wal_end"].flatMap { LSN($0) } ?? .zero
    var names: [(String, SlotOverview.Role)] = [
      (settings.slot, .main), (ReplaySlots.anchor(of: settings.slot), .anchor),
    ]
    names += found.rows.indices.compactMap { row in found[row, "slot_name"].map { ($0, .replay) } }
    var slots: [SlotOverview] = []
    for (name, role) in names {
      guard let facts = try inspector.slot(named: name) else { continue }
      slots.append(overview(name, role, facts, walEnd: walEnd))
    }
    return slots
  }

  /// Drops the anchor.
  /// - Returns: false where there is none.
  /// - Throws: `slotActive` while it is copied or moved on; `slotUnsuitable` where the slot of its name is not an
  ///   anchor.
  public static func dropAnchor(settings: PostgresSettings, stop: StopSignal) throws(RelayError) -> Bool {
    let connection = try SQLConnection(settings, stop: stop)
    let name = ReplaySlots.anchor(of: settings.slot)
    let anchor = try SlotInspector(connection: connection, settings: settings).slot(named: name)
    guard let anchor else { return false }
    let database = try connection.query("SELECT current_database()::text AS name")[0, "name"]
    guard anchor.slotType == "logical", anchor.plugin == "pgoutput", anchor.database == database else {
      let place = anchor.database.map { " of database \"\($0)\"" } ?? ""
      throw RelayError(
        .slotUnsuitable,
        "slot \"\(name)\" is not this relay's anchor: it is a \(anchor.slotType) slot\(place)",
        remedy: "If nobody needs it: SELECT pg_drop_replication_slot(\(SQLText.literal(name)));")
    }
    do throws(RelayError) {
      try connection.query("SELECT pg_drop_replication_slot(\(SQLText.literal(name)))")
    } catch  where error.kind == .slotActive {
      throw RelayError(
        .slotActive, "the anchor \"\(name)\" is being advanced at this moment and cannot be dropped",
        code: error.code, remedy: "Try again in a few seconds.")
    }
    return true
  }
}
