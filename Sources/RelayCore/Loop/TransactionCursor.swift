// Owns: the transaction that is being read, and how far.
// Must not know: what becomes of its rows.

struct TransactionCursor {
  /// Between its beginning and its end.
  private(set) var isOpen = false
  private(set) var commitLSN = LSN.zero
  private(set) var commitTime: PostgresMicroseconds = 0
  /// Of the row that comes next, among the inserted rows of the transaction.
  private(set) var nextIndex: UInt32 = 0
  /// Rows of it that were sent before the source was interrupted; `max` where all of it was.
  private(set) var rowsSent: UInt32 = 0
  /// False where its commit time is outside of what was asked for.
  private(set) var isSelected = true

  /// The place of the row that was read last; of the first row where none was.
  var place: EventSequence { EventSequence(commitLSN: commitLSN, index: max(1, nextIndex) - 1) }
  /// All of it was sent before.
  var isKnown: Bool { rowsSent == .max }

  mutating func begin(
    commitLSN: LSN, commitTime: PostgresMicroseconds, rowsSent: UInt32, isSelected: Bool
  ) {
    self.commitLSN = commitLSN
    self.commitTime = commitTime
    self.rowsSent = rowsSent
    self.isSelected = isSelected
    nextIndex = 0
    isOpen = true
  }

  /// The index of a row that has come.
  mutating func take() -> UInt32 {
    defer { nextIndex &+= 1 }
    return nextIndex
  }

  mutating func end() { isOpen = false }
}
