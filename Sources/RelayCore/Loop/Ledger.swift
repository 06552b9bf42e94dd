// Owns: the transactions in flight, and the checkpoint that follows from them.
// Must not know: what a record is, or where the checkpoint is kept.

/// One entry per transaction that has records in flight; rows cost no memory. Deliveries may come in any
/// order. The checkpoint is the end of the last transaction before which nothing is outstanding.
public struct Ledger: ~Copyable {
  private struct Entry {
    var commitLSN: LSN
    /// Zero while the transaction is open.
    var endLSN: LSN
    var commitTime: PostgresMicroseconds
    /// Rows of the stream that were dealt with, sent or not: the index of the next one.
    var rows: UInt32
    /// Those of them that were sent, and those of these that are not settled.
    var sent: UInt32 = 0
    var outstanding: UInt32
  }

  /// What `open` says of a transaction that the source has begun to send.
  public enum Opening: Equatable, Sendable {
    /// Never seen: all its rows are to be sent.
    case new
    /// Its first `rows` rows were sent before the source was interrupted: go on after them.
    case resumed(rows: UInt32)
    /// All of it was sent before: skip it.
    case known
    /// The transaction before it is still open, and the source goes on without its rest.
    case gap
  }

  /// A ring of a power of two of entries. `head` is the serial number of the oldest one. Memory of our own: an array
  /// would ask for each row whether it is shared.
  private var entries: UnsafeMutablePointer<Entry>
  private var capacity = 64
  private var head: UInt64 = 1
  private var count = 0
  private var isOpen = false
  private var newest = LSN.zero

  /// Everything that ends at or below it is acknowledged.
  public private(set) var checkpoint: LSN
  /// Records sent and not settled.
  public private(set) var outstanding = 0
  /// Records of transactions that end at or below the checkpoint, since the beginning.
  public private(set) var settled: UInt64 = 0

  public init(checkpoint: LSN = .zero) {
    self.checkpoint = checkpoint
    entries = Self.ring(capacity)
  }

  deinit { entries.deallocate() }

  private static func ring(_ capacity: Int) -> UnsafeMutablePointer<Entry> {
    let entries = UnsafeMutablePointer<Entry>.allocate(capacity: capacity)
    entries.initialize(
      repeating: Entry(commitLSN: .zero, endLSN: .zero, commitTime: 0, rows: 0, outstanding: 0),
      count: capacity)
    return entries
  }

  /// Transactions that hold the checkpoint back.
  public var transactions: Int { count }
  /// True between `open` and `close`, also across an interruption of the source.
  public var isInTransaction: Bool { isOpen }
  /// The commit LSN of the newest transaction that was opened, zero when there is none.
  public var newestCommitLSN: LSN { newest }
  /// Commit time of the oldest transaction in flight.
  public var oldestCommitTime: PostgresMicroseconds? { count == 0 ? nil : entry(head).pointee.commitTime }

  /// A transaction begins, perhaps one that an interrupted source sends once more.
  public mutating func open(commitLSN: LSN, commitTime: PostgresMicroseconds) -> Opening {
    if commitLSN < newest { return .known }
    if commitLSN == newest {
      return isOpen ? .resumed(rows: entry(tag).pointee.rows) : .known
    }
    if isOpen { return .gap }
    if count == capacity { grow() }
    count += 1
    entry(tag).pointee = Entry(
      commitLSN: commitLSN, endLSN: .zero, commitTime: commitTime, rows: 0, outstanding: 0)
    isOpen = true
    newest = commitLSN
    return .new
  }

  /// The open transaction's tag, for a record that is about to be sent.
  public var tag: UInt64 { head &+ UInt64(count) &- 1 }

  /// The sink has accepted the record of the open transaction's next row.
  public mutating func sent() {
    let entry = entry(tag)
    entry.pointee.rows &+= 1
    entry.pointee.sent &+= 1
    entry.pointee.outstanding += 1
    outstanding += 1
  }

  /// The open transaction's next row needs no record: it is not wanted, or Kafka has it already.
  public mutating func skipped() {
    entry(tag).pointee.rows &+= 1
  }

  /// The open transaction has ended.
  public mutating func close(endLSN: LSN) {
    guard isOpen else { return }
    closeNewest(endLSN: endLSN)
  }

  /// The commit LSN of a tag's transaction, nil for a tag that is not in flight.
  public func commitLSN(of tag: UInt64) -> LSN? {
    guard tag >= head, tag < head &+ UInt64(count) else { return nil }
    return entry(tag).pointee.commitLSN
  }

  /// A record is acknowledged. Returns its transaction's commit time, nil for a tag that is not in flight.
  public mutating func settle(_ tag: UInt64) -> PostgresMicroseconds? {
    guard tag >= head, tag < head &+ UInt64(count) else { return nil }
    let entry = entry(tag)
    guard entry.pointee.outstanding > 0 else { return nil }
    entry.pointee.outstanding -= 1
    outstanding -= 1
    let commitTime = entry.pointee.commitTime
    if tag == head { popSettled() }
    return commitTime
  }

  /// The source says, outside a transaction, that all that ends at or below `walEnd` has been sent.
  public mutating func advance(to walEnd: LSN) {
    guard !isOpen else { return }
    if count == 0 {
      checkpoint = max(checkpoint, walEnd)
    } else {
      let entry = entry(tag)
      entry.pointee.endLSN = max(entry.pointee.endLSN, walEnd)
    }
  }

  /// Forgets what is in flight: the sink was abandoned, and the source will send everything above the
  /// checkpoint again.
  public mutating func rewind() {
    // Serial numbers go on, so that a late delivery of the abandoned sink can settle nothing.
    head = head &+ UInt64(count)
    count = 0
    outstanding = 0
    isOpen = false
    newest = .zero
  }

  /// As `rewind`, with another checkpoint: the source starts at another place than this ledger knew.
  public mutating func reset(to checkpoint: LSN) {
    rewind()
    self.checkpoint = checkpoint
  }

  @inline(__always)
  private func entry(_ serial: UInt64) -> UnsafeMutablePointer<Entry> {
    // SAFETY: the index is below the capacity, a power of two, and all entries are initialised.
    entries + (Int(truncatingIfNeeded: serial) & (capacity - 1))
  }

  private mutating func closeNewest(endLSN: LSN) {
    isOpen = false
    let entry = entry(tag)
    if entry.pointee.rows == 0 {
      // It had no rows: its end belongs to the transaction before.
      count -= 1
      advance(to: endLSN)
    } else {
      entry.pointee.endLSN = endLSN
      if count == 1 || self.entry(head).pointee.outstanding == 0 { popSettled() }
    }
  }

  private mutating func popSettled() {
    while count > 0 {
      let entry = entry(head).pointee
      guard entry.outstanding == 0, entry.endLSN != .zero else { return }
      checkpoint = max(checkpoint, entry.endLSN)
      settled &+= UInt64(entry.sent)
      head &+= 1
      count -= 1
    }
  }

  private mutating func grow() {
    let larger = Self.ring(capacity * 2)
    for offset in 0..<count {
      let serial = head &+ UInt64(offset)
      // SAFETY: the index is below the larger ring's capacity, a power of two.
      larger[Int(truncatingIfNeeded: serial) & (capacity * 2 - 1)] = entry(serial).pointee
    }
    entries.deallocate()
    entries = larger
    capacity *= 2
  }
}
