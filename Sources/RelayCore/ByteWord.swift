// Owns: looking at eight bytes at a time.
// Must not know: what is looked for.

enum ByteWord {
  static let ones: UInt64 = 0x0101_0101_0101_0101
  static let highBits: UInt64 = 0x8080_8080_8080_8080

  /// A high bit for each byte that is zero, and above the first such byte perhaps for others.
  @inline(__always)
  static func zeros(_ word: UInt64) -> UInt64 { (word &- ones) & ~word & highBits }
}

extension UnsafeRawBufferPointer {
  /// How many of the first bytes there are before the first word that does not pass, in steps of eight.
  @inline(__always)
  func prefixOfWords(_ passes: (UInt64) -> Bool) -> Int {
    var position = 0
    while position + 8 <= count {
      // SAFETY: `position + 8` is within the count; loadUnaligned needs no alignment.
      guard passes(loadUnaligned(fromByteOffset: position, as: UInt64.self)) else { break }
      position += 8
    }
    return position
  }
}
