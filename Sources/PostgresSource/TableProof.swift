// Owns: which rows of the tables are read, by which proof, and how many were proven. START HERE for table reads.
// Must not know: statements, cursors, how the stream's rows are read from the WAL.
//
// What a table tells of a row is `xmin`, the transaction that wrote it last. That is the one that inserted it, unless
// the row was updated since: then nothing in the table tells when it was inserted, and no counter of the statistics
// says reliably that no row was (they are lost in a crash, by pg_stat_reset, by a promotion). So `xmin` proves one
// thing only: a row was inserted by that transaction or by an earlier one. What follows:
//
// - Lower bounds are exact: a row whose `xmin` lies below `lowestTransaction` was inserted below it too.
// - Rows whose `xmin` is visible in the start's snapshot, or lies below `endTransaction`, were inserted there or
//   before. They are read: certain.
// - The others were inserted later, and the stream has them, or were inserted before and updated later, and nobody has
//   them but the table. The WAL tells: as long as a slot has it from `streamStart` on, it is decoded up to the read's
//   snapshot. What was inserted there is left out, and everything else is read: certain.
// - Where that WAL is no longer there, or holds more rows than are remembered, what is not proven to be the stream's
//   is read: in doubt. So a read has everything, and at worst more.
// - A commit time is that of `xmin`, so it is never handed over as the row's. As a lower bound it holds.
// - A read that goes on after an interruption reads every row again that was written since, wherever its place is now.
//
// A row is known by its key: the columns of its event's id and source, and of its primary key. Two rows with one key
// are one event to a consumer.
import Glibc
public import RelayCore
import Synchronization

/// Which rows of the tables are read. Everything nil: all that are visible.
public struct TableRange: Equatable, Sendable {
  /// Rows of this full transaction id and later ones.
  public var lowestTransaction: UInt64?
  /// Rows of transactions before this full id belong to the range.
  public var endTransaction: UInt64?
  /// A `pg_snapshot` that lists subtransactions, as one that was exported with a slot: the rows visible in it belong to
  /// the range.
  public var visibleIn: String?
  /// Of the rows that do not belong to the range for certain, those are left out that are proven to be inserted by
  /// transactions which committed at this LSN or later. Nil: none is.
  public var streamStart: LSN?
  /// A snapshot of which every row is read: it is waited until they can all be seen.
  public var covers: String?
  /// Rows whose time column is at or after it, or NULL; where there is no such column, rows whose commit time is, as
  /// far as it is known.
  public var since: PostgresMicroseconds?
  /// Rows whose commit time is at or after it, or not known.
  public var committedSince: PostgresMicroseconds?

  public init() {}
}

/// Identifies a row. 128 bits of two SipHashes whose key is this process' own: that one row of a million times a
/// billion is mistaken for another has a probability of 10^-23, less than that of a fault in memory.
struct RowKey: Hashable {
  private let first: Int
  private let second: Int

  init(_ relation: UInt32, _ columns: [Int], _ value: (Int) -> ColumnValue) {
    var first = Hasher()
    var second = Hasher()
    first.combine(relation)
    second.combine(~relation)
    for column in columns {
      let value = value(column)
      let count = value.format == .null ? -1 : value.bytes.count
      first.combine(count)
      second.combine(count)
      first.combine(bytes: value.bytes)
      second.combine(bytes: value.bytes)
    }
    self.first = first.finalize()
    self.second = second.finalize()
  }
}

/// The rows that the stream has for certain.
struct StreamedRows {
  /// About 50 MB.
  static let limit = 1_000_000
  private(set) var keys: Set<RowKey> = []
  /// Why rows of the stream may be missing here. Nil: none is.
  var gap: String?

  mutating func add(_ key: RowKey) { keys.insert(key) }
  func holds(_ key: RowKey) -> Bool { keys.contains(key) }
}

/// How many rows were read by which proof. Crosses threads.
public final class TableTally: Sendable {
  let certain = Atomic<UInt64>(0)
  let doubtful = Atomic<UInt64>(0)
  let streamed = Atomic<UInt64>(0)
  private let reason = Mutex<String?>(nil)

  public init() {}

  /// Rows that belong to the range; rows that were read since nothing proves that they do not belong to it; and rows
  /// that were left out since the stream has them.
  public var counts: (certain: UInt64, doubtful: UInt64, streamed: UInt64) {
    (certain.load(ordering: .relaxed), doubtful.load(ordering: .relaxed), streamed.load(ordering: .relaxed))
  }

  /// Why rows are in doubt.
  public internal(set) var gap: String? {
    get { reason.withLock { $0 } }
    set { reason.withLock { $0 = newValue } }
  }
}
