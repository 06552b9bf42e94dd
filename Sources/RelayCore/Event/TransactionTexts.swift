// Owns: the texts that all rows of a transaction have in common: its commit time, and the head of `sequence`.
// Must not know: rows.
import Glibc

/// Written once for a transaction, lent to each of its rows.
struct TransactionTexts: ~Copyable {
  /// CloudEvents extension "sequence", which sorts as text: 16 digits of the commit LSN, a hyphen, 8 of the index.
  private static let sequenceCount = 25

  private let sequence: UnsafeMutableRawPointer
  private let time: UnsafeMutableRawPointer
  private var sequenceLSN: LSN?
  private var timeValue: PostgresMicroseconds?
  /// The beginning of the second that the text tells.
  private var timeSecond: PostgresMicroseconds = 0
  private var timeCount: Int?

  init() {
    sequence = .allocate(byteCount: Self.sequenceCount, alignment: 1)
    time = .allocate(byteCount: RFC3339.maximumCount, alignment: 1)
  }

  deinit {
    sequence.deallocate()
    time.deallocate()
  }

  /// Valid until the next call.
  @inline(__always)
  mutating func sequence(_ commitLSN: LSN, _ index: RowIndex) -> LentBytes {
    // SAFETY: 16 digits, a hyphen and 8 digits fill the 25 bytes.
    if sequenceLSN != commitLSN {
      Hexadecimal.write(UInt32(truncatingIfNeeded: commitLSN.rawValue >> 32), to: sequence)
      Hexadecimal.write(UInt32(truncatingIfNeeded: commitLSN.rawValue), to: sequence + 8)
      sequence.storeBytes(of: 0x2D, toByteOffset: 16, as: UInt8.self)
      sequenceLSN = commitLSN
    }
    Hexadecimal.write(index, to: sequence + 17)
    return LentBytes(start: sequence, count: Self.sequenceCount)
  }

  /// Valid until the next call with another time. Nil for a time that RFC 3339 cannot tell.
  mutating func time(_ commitTime: PostgresMicroseconds) -> LentBytes? {
    if timeValue != commitTime {
      let microsecond = commitTime &- timeSecond
      // SAFETY: there is room for the longest text.
      if timeCount != nil, (0..<1_000_000).contains(microsecond) {
        RFC3339.rewrite(microsecond: microsecond, in: time)
      } else {
        timeCount = RFC3339.write(commitTime, to: time)
        let remainder = commitTime % 1_000_000
        timeSecond = commitTime &- (remainder < 0 ? remainder &+ 1_000_000 : remainder)
      }
      timeValue = commitTime
    }
    return timeCount.map { LentBytes(start: time, count: $0) }
  }
}
