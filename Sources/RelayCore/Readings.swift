// Owns: what was read of the slots, with the time of the reading.
// Must not know: how it was read.

/// A reading that is older than three intervals says nothing of the present.
public protocol TimedReading: Sendable {
  var time: MonotonicTime { get }
  /// Milliseconds between two readings.
  static var interval: Int { get }
}

extension TimedReading {
  public func isCurrent(at now: MonotonicTime) -> Bool {
    now <= time.advanced(milliseconds: 3 * Self.interval)
  }

  public func age(at now: MonotonicTime) -> Double {
    now > time ? Double(now.nanoseconds - time.nanoseconds) / 1e9 : 0
  }
}

/// The relay's slot, by the watch on the database. Nil: not known.
public struct SlotReading: TimedReading, Equatable {
  public static let interval = 5_000

  public var time: MonotonicTime
  public var lagBytes: Int64?
  public var retainedBytes: Int64?
  public var safeBytes: Int64?
  /// `pg_replication_slots.wal_status`.
  public var walStatus: String?

  public init(
    time: MonotonicTime = .now(), lagBytes: Int64? = nil, retainedBytes: Int64? = nil,
    safeBytes: Int64? = nil,
    walStatus: String? = nil
  ) {
    self.time = time
    self.lagBytes = lagBytes
    self.retainedBytes = retainedBytes
    self.safeBytes = safeBytes
    self.walStatus = walStatus
  }
}

/// The anchor that WAL is kept by for replays.
public struct AnchorReading: TimedReading, Equatable {
  /// To move the anchor on may take that long.
  public static let interval = 60_000

  public var time: MonotonicTime
  /// WAL that the server keeps for it. Nil: there is no anchor.
  public var retainedBytes: Int64?
  /// Where replay from the WAL can begin.
  public var lsn: LSN?

  public init(time: MonotonicTime = .now(), retainedBytes: Int64? = nil, lsn: LSN? = nil) {
    self.time = time
    self.retainedBytes = retainedBytes
    self.lsn = lsn
  }
}
