// Owns: which rows of the tables are read, by which proof, and how many were proven. START HERE for table reads.
// Must not know: statements, cursors, how the stream's rows are read from the WAL.
//
// What each command owes, of the rows that still exist when it reads:
//
// - backfill: what was committed before the start of its table, that is before the slot, or before the table joined the
//   publication. The stream has what was committed since.
// - replay from tables: what was committed in the range.
// - recover: what was committed in the range in doubt.
//
// What Postgres guarantees:
//
// 1. `xmin` is the transaction that wrote this version of the row (manual 5.5, System Columns): the one that inserted it,
//    or a later one: UPDATE writes a version, and so does every rewriting ALTER TABLE for every row. So a row was inserted
//    by its `xmin` or before. No counter of the statistics says reliably that nothing was updated (a crash, pg_stat_reset
//    and a promotion lose them); a file node says only that the table was not rewritten.
// 2. A snapshot says of a transaction whether it had ended (9.27, pg_visible_in_snapshot). pg_current_snapshot() lists no
//    subtransactions, so that of it only `xmin` counts: all below had ended. The snapshot that is exported with a slot
//    lists them all, and has exactly what was committed before the slot's place (49.2.5, Exported Snapshots).
// 3. Decoding from a place gives every row that was inserted by a transaction which commits there or later, as far as the
//    publication carried the table at the place of the insert in the WAL (49.1.2): so also a copy of a slot
//    (9.28.6, pg_copy_logical_replication_slot) gives what the relay's own stream had or will have.
// 4. A table keeps its OID under every name; a partition keeps its own when it is detached.
//
// What follows:
//
// - Lower bounds are exact (1, 2): a row whose `xmin` lies below `lowestTransaction` was inserted below it too. It is left
//   out. Ids of 32 bits get the upper half that makes them newer where it is not certain.
// - Rows whose `xmin` is visible in the start's snapshot, or lies below `endTransaction`, were inserted there or before
//   (1, 2). They are read: certain.
// - The others were inserted later, and the stream has them, or were inserted before and written again later, and nobody
//   has them but the table. The WAL tells (3): as long as a slot has it from `streamStart` on, it is decoded up to the
//   read's snapshot. What was inserted there is left out, and everything else is read: certain.
// - Where that WAL is no longer there, or holds more rows than are remembered, what is not proven to be the stream's
//   is read: in doubt. So a read has everything, and at worst more. recover has no upper bound at all: what it reads is in
//   doubt.
// - A table begins at a start of its own where it joined the publication later. That start is a place and a snapshot at
//   which it was no member, so rows of between may be in doubt, and none is missing. A read waits until transactions
//   that were open when it was planned have ended: one that had written before the table joined is in the stream in part.
// - A commit time is that of `xmin`, so it is never handed over as the row's. As a lower bound it holds.
// - A read that goes on after an interruption reads the same tables (4): from the place in their order on, rows at that
//   place included, and every row that was written since, wherever its place is now. Neither `cmin` nor `ctid` is a place:
//   a rolled-back DELETE overwrites one, and VACUUM FULL the other. Where tables were rewritten or partitions changed, all
//   rows are read again.
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
  /// Why none of the rows belongs to the range for certain, where there is no `streamStart`. Nil: all do.
  public var doubt: String?
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

  /// - Parameter outbox: stands for its name. All its tables are one: the WAL has a partition's rows under the
  ///   partitioned table.
  init(_ outbox: Int, _ columns: [Int], _ value: (Int) -> ColumnValue) {
    var first = Hasher()
    var second = Hasher()
    first.combine(outbox)
    second.combine(~outbox)
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
  /// Every row is here that was committed from here on, as long as there is no `fault`.
  var from = LSN.zero
  /// The slot that had the WAL.
  var slot = ""
  /// Why any row may be missing here. Nil: `from` says it all.
  var fault: String?

  mutating func add(_ key: RowKey) { keys.insert(key) }
  func holds(_ key: RowKey) -> Bool { keys.contains(key) }

  /// Why rows of the stream may be missing here that were committed from `start` on. Nil: none is.
  func gap(since start: LSN) -> String? {
    if let fault { return fault }
    if start >= from { return nil }
    let place = "slot \"\(slot)\" has the WAL from \(from) on, and "
    return place
      + (start == .zero
        ? "it is not known where the table joined the publication"
        : "the rows of the stream begin at \(start)")
  }
}

/// What was read of one table, and by which proof.
public struct TableCount: Equatable, Sendable {
  public var oid: UInt32
  /// As it is named now.
  public var table: String
  /// The outbox that it has rows of, where that has another name.
  public var outbox: String?
  /// In words, to follow "order": `by column "id"`.
  public var order: String
  /// Rows that belong to the range.
  public var certain: UInt64 = 0
  /// Rows that were read since nothing proves that they do not belong to it.
  public var doubtful: UInt64 = 0
  /// Rows that were left out since the stream has them.
  public var streamed: UInt64 = 0
  /// Why rows may be in doubt. Nil: none is.
  public var gap: String?
}

/// A table or partition that had rows of an outbox and does not exist any more.
public struct DroppedTable: Equatable, Sendable {
  public var oid: UInt32
  /// The outbox.
  public var outbox: String
}

/// What a read has come to, table by table. Crosses threads.
public final class TableTally: Sendable {
  private let tables = Mutex<[TableCount]>([])
  private let gone = Mutex<[DroppedTable]>([])

  public init() {}

  /// In the order in which they are read.
  public internal(set) var counts: [TableCount] {
    get { tables.withLock { $0 } }
    set { tables.withLock { $0 = newValue } }
  }

  /// What nobody can read any more.
  public internal(set) var dropped: [DroppedTable] {
    get { gone.withLock { $0 } }
    set { gone.withLock { $0 = newValue } }
  }

  func update(_ index: Int, _ count: TableCount) { tables.withLock { $0[index] = count } }
}
