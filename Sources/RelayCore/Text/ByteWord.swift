// Owns: looking at eight bytes at a time.
// Must not know: what is searched.

enum ByteWord {
  static let ones: UInt64 = 0x0101_0101_0101_0101
  static let highBits: UInt64 = 0x8080_8080_8080_8080

  /// A high bit for each byte that is zero, and above the first such byte perhaps for others.
  @inline(__always)
  static func zeros(_ word: UInt64) -> UInt64 { (word &- ones) & ~word & highBits }

  /// As `zeros`, for each byte that is no printable ASCII: outside 0x20...0x7E. It sets its high bit by itself, by a
  /// borrow, or as 0x7F by the addition.
  @inline(__always)
  static func unprintable(_ word: UInt64) -> UInt64 {
    (word | (word &- ones &* 0x20) | (word &+ ones)) & highBits
  }

  /// As `zeros`, for each `"` and each `\`.
  @inline(__always)
  static func quotes(_ word: UInt64) -> UInt64 {
    zeros(word ^ ones &* 0x22) | zeros(word ^ ones &* 0x5C)
  }
}

extension UnsafeRawBufferPointer {
  /// How many of the first bytes pass: all, or never more than come before the first that does not. A word passes where
  /// each of its bytes does.
  @inline(__always)
  func prefixOfWords(_ passes: (UInt64) -> Bool) -> Int {
    var position = 0
    while position + 8 <= count {
      // SAFETY: `position + 8` is within the count; loadUnaligned needs no alignment.
      guard passes(loadUnaligned(fromByteOffset: position, as: UInt64.self)) else { return position }
      position += 8
    }
    if position < count, let word = lastWord, passes(word) { return count }
    return position
  }

  /// The last eight bytes; of four to seven bytes the first four and the last four. Nil where there are fewer.
  @inline(__always)
  private var lastWord: UInt64? {
    // SAFETY: the loads begin at or behind the first byte and end with the last; loadUnaligned needs no alignment.
    if count >= 8 { return loadUnaligned(fromByteOffset: count - 8, as: UInt64.self) }
    guard count >= 4 else { return nil }
    return UInt64(loadUnaligned(fromByteOffset: 0, as: UInt32.self)) << 32
      | UInt64(loadUnaligned(fromByteOffset: count - 4, as: UInt32.self))
  }
}
