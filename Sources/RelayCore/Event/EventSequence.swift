// Owns: the place of an event in the WAL, and reading it back from the attribute `sequence`.
// Must not know: where messages are read from.

/// The index of a row among the inserted rows of its transaction, from 0. Nothing else in a transaction counts in it.
public typealias RowIndex = UInt32

/// The place of an event: the commit LSN of its transaction, and the index of its row therein.
public struct EventSequence: Hashable, Comparable, Sendable {
  public var commitLSN: LSN
  public var index: RowIndex

  public init(commitLSN: LSN, index: RowIndex) {
    self.commitLSN = commitLSN
    self.index = index
  }

  public static func < (left: EventSequence, right: EventSequence) -> Bool {
    (left.commitLSN, left.index) < (right.commitLSN, right.index)
  }

  /// Reads `0000000016b374d8-0000002a`: 16 and 8 lower-case hexadecimal digits. Nil for anything else.
  public init?(_ text: LentBytes) {
    guard text.count == 25, text[16] == 0x2D,
      let commitLSN = Self.number(text[0..<16]), let index = Self.number(text[17..<25])
    else { return nil }
    self.init(commitLSN: LSN(commitLSN), index: RowIndex(truncatingIfNeeded: index))
  }

  /// Reads the `sequence` of the event that is a message. Nil where there is none, or it has another form.
  public init?(of record: Record) {
    guard let text = EventShape.bytes(of: .sequence, in: record) else { return nil }
    self.init(text)
  }

  private static func number(_ digits: Slice<LentBytes>) -> UInt64? {
    var result: UInt64 = 0
    for digit in digits {
      switch digit {
      case 0x30...0x39: result = result << 4 | UInt64(digit - 0x30)
      case 0x61...0x66: result = result << 4 | UInt64(digit - 0x57)
      default: return nil
      }
    }
    return result
  }
}
