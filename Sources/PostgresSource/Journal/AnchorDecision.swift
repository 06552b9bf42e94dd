// Owns: what becomes of the anchor slot: made, moved on, left, or given up. Pure.
// Must not know: how the facts were read, threads.
import RelayCore

enum AnchorAction: Equatable {
  case leave
  /// As a copy of the main slot.
  case create
  /// An advance to where it stands already lets `restart_lsn` follow, which lags by one step.
  case advance(to: LSN)
  case drop(reason: String)
}

/// What is known of the server when the anchor is maintained.
struct AnchorFacts: Equatable {
  var main: SlotFacts?
  var anchor: SlotFacts?
  var walEnd: LSN
  /// `max_slot_wal_keep_size` in bytes; nil: no limit.
  var keepSize: Int64?
  /// The journal's checkpoint. Nil: there is none, and then no window either.
  var checkpoint: LSN?
  /// Where the window begins by time. Nil: not due.
  var windowStart: LSN?
  /// An earlier checkpoint from which on WAL is well within the limit of bytes. Nil: there is none.
  var bytesStart: LSN?
  /// Milliseconds since the anchor was given up, or could not be made. Nil: it never was.
  var sinceDrop: Int?
  /// The place at which the anchor was last advanced to where it stood.
  var settledAt: LSN?
  /// An idle slot would be invalidated by `idle_replication_slot_timeout`.
  var mustTouch = false
}

/// The anchor may cost history, and never the primary: whatever looks like danger ends it.
struct AnchorDecision {
  let facts: AnchorFacts
  /// `replay.max_bytes`.
  let maxBytes: UInt64

  /// How much WAL one statement may move it on, for a statement of a second.
  static let step: UInt64 = 256 << 20
  /// Milliseconds until it is made again.
  static let createDelay = 300_000
  private static let leastMargin: Int64 = 64 << 20

  /// What must be left of `safe_wal_size`.
  static func margin(keepSize: Int64?) -> Int64 { max(leastMargin, (keepSize ?? 0) / 10) }

  /// What must be left for the main slot before an anchor is made.
  static func leastRoom(keepSize: Int64?) -> Int64 { 2 * margin(keepSize: keepSize) }

  /// `max_slot_wal_keep_size` leaves no room for an anchor that is to be made.
  var lacksRoom: Bool {
    guard facts.anchor == nil, facts.sinceDrop == nil, let safe = facts.main?.safeWALSize else {
      return false
    }
    return safe < Self.leastRoom(keepSize: facts.keepSize)
  }

  func decide() -> AnchorAction {
    guard let anchor = facts.anchor else { return mayCreate ? .create : .leave }
    guard isOurs else { return .leave }
    if let danger = danger(of: anchor) { return .drop(reason: danger) }
    let position = anchor.confirmedFlushLSN ?? .zero
    if retained(by: anchor) > maxBytes { return shorten(anchor, at: position) }
    if let start = facts.windowStart, min(start, limit) > position {
      return .advance(to: step(from: position, to: min(start, limit)))
    }
    return facts.mustTouch ? .advance(to: position) : .leave
  }

  /// False where a slot of the anchor's name is something else.
  var isOurs: Bool {
    guard let anchor = facts.anchor else { return true }
    return anchor.slotType == "logical" && anchor.plugin == "pgoutput" && !anchor.isTemporary
      && anchor.database == (facts.main?.database ?? anchor.database)
  }

  /// The anchor must not be moved beyond it: what lies above is not published for certain.
  private var limit: LSN { min(facts.main?.confirmedFlushLSN ?? .zero, facts.checkpoint ?? .zero) }

  func retained(by slot: SlotFacts) -> UInt64 {
    guard let restart = slot.restartLSN, facts.walEnd > restart else { return 0 }
    return facts.walEnd.rawValue - restart.rawValue
  }

  private var mayCreate: Bool {
    guard let main = facts.main, main.walStatus == "reserved", main.invalidationReason == nil,
      main.restartLSN != nil, !main.isTemporary, facts.checkpoint != nil
    else { return false }
    if let sinceDrop = facts.sinceDrop, sinceDrop < Self.createDelay { return false }
    if let safe = main.safeWALSize, safe < Self.leastRoom(keepSize: facts.keepSize) { return false }
    return retained(by: main) <= maxBytes
  }

  private func danger(of anchor: SlotFacts) -> String? {
    if let reason = anchor.invalidationReason { return "it is invalidated: \(reason)" }
    guard anchor.restartLSN != nil, let status = anchor.walStatus, ["reserved", "extended"].contains(status)
    else { return "its wal_status is \(anchor.walStatus ?? "unknown")" }
    let margin = Self.margin(keepSize: facts.keepSize)
    if let safe = anchor.safeWALSize, safe < margin {
      return "its safe_wal_size is \(safe), below \(margin)"
    }
    return nil
  }

  private func shorten(_ anchor: SlotFacts, at position: LSN) -> AnchorAction {
    let goal = min(facts.bytesStart ?? limit, limit)
    if goal > position { return .advance(to: step(from: position, to: goal)) }
    if facts.settledAt != position { return .advance(to: position) }
    // A transaction that was open here, and for long, holds `restart_lsn`: its end lies further on.
    if limit > position { return .advance(to: step(from: position, to: limit)) }
    let isHolder = facts.main?.restartLSN.map { $0 > anchor.restartLSN ?? .zero } ?? true
    return isHolder
      ? .drop(reason: "it keeps \(retained(by: anchor)) bytes, more than replay.max_bytes") : .leave
  }

  private func step(from position: LSN, to goal: LSN) -> LSN {
    goal.rawValue - position.rawValue > Self.step ? LSN(position.rawValue + Self.step) : goal
  }
}
