// Owns: what a replay covers: from where to where, and out of what.
// Must not know: the command line, and how the range is read.
public import RelayCore

/// Where a range begins or ends.
public enum ReplayPlace: Equatable, Sendable {
  /// A transaction's commit LSN: the first half of `sequence`.
  case lsn(LSN)
  /// A commit time.
  case time(PostgresMicroseconds)
}

/// What a replay is read from.
public enum ReplayOrigin: String, CaseIterable, Sendable {
  /// The WAL that the anchor holds: exactly the range, in commit order.
  case wal
  /// The rows of the outbox tables: everything in the range, and rows around it.
  case table
}

public struct ReplayPlan: Equatable, Sendable {
  public var origin: ReplayOrigin
  /// Of the first transaction, or lower: its commit LSN.
  public var from: LSN
  /// Of the last transaction, or higher: its commit LSN.
  public var through: LSN
  /// Commit times, both included, by which events are chosen; nil where the range is one of LSNs.
  public var fromTime: PostgresMicroseconds?
  public var toTime: PostgresMicroseconds?
  /// What the main slot had confirmed when the replay was planned: what is replayed has been published before.
  public var published: LSN
  /// Of a table: ids, of 64 bits, of the transactions that may lie in the range, from this one on.
  public var lowestTransaction: UInt64?
  /// And below this one; nil: no bound.
  public var endTransaction: UInt64?
  /// What a person should know of the result.
  public var notes: [String]

  public init(
    origin: ReplayOrigin, from: LSN, through: LSN, fromTime: PostgresMicroseconds? = nil,
    toTime: PostgresMicroseconds? = nil, published: LSN, lowestTransaction: UInt64? = nil,
    endTransaction: UInt64? = nil, notes: [String] = []
  ) {
    self.origin = origin
    self.from = from
    self.through = through
    self.fromTime = fromTime
    self.toTime = toTime
    self.published = published
    self.lowestTransaction = lowestTransaction
    self.endTransaction = endTransaction
    self.notes = notes
  }
}
