// Owns: timestamps as text (RFC 3339, section 5.6), in UTC.
// Must not know: what a time belongs to.

public enum RFC3339 {
  /// The longest text, in bytes: `2026-11-21T09:58:22.123456Z`.
  public static let maximumCount = 27

  /// Microseconds since 2000 of 0001-01-01T00:00:00Z and of 10000-01-01T00:00:00Z: RFC 3339 has no year
  /// outside, and Postgres' infinities lie outside too.
  static let lowest: PostgresMicroseconds = -63_082_281_600_000_000
  static let end: PostgresMicroseconds = 252_455_616_000_000_000

  /// Writes `time` at `target`, which has room for `maximumCount` bytes, with 0 to 6 digits of the second's
  /// fraction. Returns the number of bytes, or nil if the time has no RFC 3339 form.
  public static func write(
    _ time: PostgresMicroseconds, digits: Int = 6, to target: UnsafeMutableRawPointer
  ) -> Int? {
    guard time >= lowest, time < end else { return nil }
    let (date, inDay) = CivilDate.split(time)
    // SAFETY: the offsets below are fixed and end at 20 + digits ≤ 27, which the caller has room for.
    let bytes = target.assumingMemoryBound(to: UInt8.self)
    put(date.year, at: bytes, width: 4)
    bytes[4] = 0x2D
    put(date.month, at: bytes + 5, width: 2)
    bytes[7] = 0x2D
    put(date.day, at: bytes + 8, width: 2)
    bytes[10] = 0x54
    let seconds = inDay / 1_000_000
    put(seconds / 3600, at: bytes + 11, width: 2)
    bytes[13] = 0x3A
    put(seconds / 60 % 60, at: bytes + 14, width: 2)
    bytes[16] = 0x3A
    put(seconds % 60, at: bytes + 17, width: 2)
    var count = 19
    if digits > 0 {
      bytes[19] = 0x2E
      var fraction = inDay % 1_000_000
      for _ in digits..<6 { fraction /= 10 }
      put(fraction, at: bytes + 20, width: digits)
      count = 20 + digits
    }
    bytes[count] = 0x5A
    return count + 1
  }

  /// Whether a text that `ValueText` made of a time is one of `write`, and not of Postgres' form.
  static func isTime(_ text: LentBytes) -> Bool {
    text.count == maximumCount && text[maximumCount - 1] == 0x5A
  }

  /// Writes six other digits of the second's fraction into a text that `write` made with six.
  static func rewrite(microsecond: Int64, in text: UnsafeMutableRawPointer) {
    // SAFETY: such a text has 27 bytes.
    put(microsecond, at: text.assumingMemoryBound(to: UInt8.self) + 20, width: 6)
  }

  /// Writes the last `width` digits of `value`, which is not negative.
  private static func put(_ value: Int64, at target: UnsafeMutablePointer<UInt8>, width: Int) {
    var value = value
    var position = width
    while position > 0 {
      position -= 1
      // SAFETY: the caller has room for `width` bytes.
      target[position] = UInt8(truncatingIfNeeded: 0x30 + value % 10)
      value /= 10
    }
  }

  /// As text; "infinity" and "-infinity" where there is no RFC 3339 form.
  public static func string(microseconds time: PostgresMicroseconds, digits: Int = 6) -> String {
    withUnsafeTemporaryAllocation(byteCount: maximumCount, alignment: 1) { buffer in
      // SAFETY: the buffer has `maximumCount` bytes, and `write` fills the first `count` of them.
      guard let base = buffer.baseAddress, let count = write(time, digits: digits, to: base) else {
        return time < 0 ? "-infinity" : "infinity"
      }
      return String(decoding: buffer[..<count], as: UTF8.self)
    }
  }

  /// As `string`, without a fraction of zero.
  public static func shortest(microseconds time: PostgresMicroseconds) -> String {
    string(microseconds: time, digits: time % 1_000_000 == 0 ? 0 : 6)
  }
}
