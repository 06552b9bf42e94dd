// Owns: hexadecimal digits.
// Must not know: what they are digits of.

enum Hexadecimal {
  @inline(__always)
  static func digit(_ value: UInt8) -> UInt8 { value < 10 ? 0x30 + value : 0x57 + value }

  /// The eight digits of `value` in lower case, the first of them in the highest byte.
  @inline(__always)
  static func digits(_ value: UInt32) -> UInt64 {
    // The nibbles are spread, one to a byte; then each byte becomes a digit, all of them at once.
    var word = UInt64(value)
    word = (word | word << 16) & 0x0000_FFFF_0000_FFFF
    word = (word | word << 8) & 0x00FF_00FF_00FF_00FF
    word = (word | word << 4) & 0x0F0F_0F0F_0F0F_0F0F
    let letters = (word &+ 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101
    return word &+ 0x3030_3030_3030_3030 &+ letters &* 0x27
  }

  /// Writes the eight digits of `value`, in lower case.
  @inline(__always)
  static func write(_ value: UInt32, to target: UnsafeMutableRawPointer) {
    // SAFETY: the caller has room for eight bytes.
    target.storeBytes(of: digits(value).bigEndian, as: UInt64.self)
  }
}
