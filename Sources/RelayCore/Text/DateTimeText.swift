// Owns: dates and times as Postgres prints them, with DateStyle ISO, for those that RFC 3339 cannot tell too.
// Must not know: RFC 3339.

enum DateTimeText {
  /// The longest text, in bytes: `294276-12-31 23:59:59.999999+00 BC`.
  static let maximumCount = 40

  /// A `date`: days since 2000-01-01, of which the extremes are the infinities. `2026-11-21`, `12026-11-21`,
  /// `0044-03-15 BC`, `infinity`.
  static func write(days: Int32, to target: UnsafeMutableRawPointer) -> Int {
    var cursor = ByteCursor(target)
    switch days {
    case .max: cursor.put("infinity")
    case .min: cursor.put("-infinity")
    default:
      let date = CivilDate(dayNumber: Int64(days) + CivilDate.postgresEpoch)
      put(date, to: &cursor)
      if date.year <= 0 { cursor.put(" BC") }
    }
    return cursor.count
  }

  /// A `timestamp`, or with `isZoned` a `timestamptz` in UTC. Any value has a text.
  static func write(
    _ time: PostgresMicroseconds, isZoned: Bool, to target: UnsafeMutableRawPointer
  ) -> Int {
    var cursor = ByteCursor(target)
    if time == .max || time == .min {
      cursor.put(time == .max ? "infinity" : "-infinity")
      return cursor.count
    }
    let (date, inDay) = CivilDate.split(time)
    put(date, to: &cursor)
    let seconds = inDay / 1_000_000
    cursor.put(" ")
    cursor.put(seconds / 3600, width: 2)
    cursor.put(":")
    cursor.put(seconds / 60 % 60, width: 2)
    cursor.put(":")
    cursor.put(seconds % 60, width: 2)
    var fraction = inDay % 1_000_000
    if fraction != 0 {
      var width = 6
      while fraction % 10 == 0 {
        fraction /= 10
        width -= 1
      }
      cursor.put(".")
      cursor.put(fraction, width: width)
    }
    if isZoned { cursor.put("+00") }
    if date.year <= 0 { cursor.put(" BC") }
    return cursor.count
  }

  private static func put(_ date: CivilDate, to cursor: inout ByteCursor) {
    // There is no year 0: 1 BC comes before 1.
    cursor.put(date.year > 0 ? date.year : 1 - date.year, width: 4)
    cursor.put("-")
    cursor.put(date.month, width: 2)
    cursor.put("-")
    cursor.put(date.day, width: 2)
  }
}

/// Writes a text that is known to fit where it is written.
struct ByteCursor {
  let start: UnsafeMutablePointer<UInt8>
  private(set) var count = 0

  init(_ target: UnsafeMutableRawPointer) { start = target.assumingMemoryBound(to: UInt8.self) }

  mutating func put(_ text: StaticString) {
    // SAFETY: the buffer is the static string's own, and is only read.
    text.withUTF8Buffer { for byte in $0 { put(byte: byte) } }
  }

  mutating func put(byte: UInt8) {
    // SAFETY: whoever makes the cursor has room for the longest of its texts.
    start[count] = byte
    count += 1
  }

  mutating func put(zeros number: Int) {
    for _ in 0..<max(0, number) { put(byte: 0x30) }
  }

  /// A number that is not negative, with zeros in front up to `width` digits.
  mutating func put(_ value: Int64, width: Int) {
    var digits = width
    var limit: Int64 = 1
    for _ in 0..<width { limit *= 10 }
    while value >= limit {
      digits += 1
      limit *= 10
    }
    var rest = value
    // SAFETY: as `put(byte:)`; the digits are put down from the last to the first.
    for index in stride(from: count + digits - 1, through: count, by: -1) {
      start[index] = 0x30 + UInt8(truncatingIfNeeded: rest % 10)
      rest /= 10
    }
    count += digits
  }
}
