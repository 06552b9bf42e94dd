// Owns: reading a timestamp of RFC 3339, section 5.6.
// Must not know: where the text comes from.

extension RFC3339 {
  public enum ParseFault: Error, Equatable {
    /// It is a time in all, though without `Z` or an offset: nobody can know which moment is meant.
    case noZone
    case malformed
  }

  /// Microseconds since 2000. The `T` may be a space, the fraction of a second has any number of digits, of which six
  /// count; the offset is `Z` or `±hh:mm`.
  /// - Throws: `noZone`, `malformed`.
  public static func parse(_ text: String) throws(ParseFault) -> PostgresMicroseconds {
    var reader = TimestampReader(text)
    guard let year = reader.number(4), reader.take("-"), let month = reader.number(2), reader.take("-"),
      let day = reader.number(2), reader.take("T") || reader.take("t") || reader.take(" "),
      let hour = reader.number(2), reader.take(":"), let minute = reader.number(2), reader.take(":"),
      let second = reader.number(2)
    else { throw .malformed }
    guard year >= 1, (1...12).contains(month), (1...days(of: month, year: year)).contains(day), hour < 24,
      minute < 60, second <= 60
    else { throw .malformed }
    let fraction = reader.take(".") ? reader.fraction() : 0
    guard let fraction else { throw .malformed }
    if reader.isAtEnd { throw .noZone }
    guard let offset = reader.offset(), reader.isAtEnd else { throw .malformed }
    let seconds =
      (dayNumber(year, month, day) * 24 + hour) * 3600 + minute * 60 + second - offset * 60
    return seconds * 1_000_000 + fraction - .unixEpochOffset
  }

  private static func days(of month: Int64, year: Int64) -> Int64 {
    switch month {
    case 4, 6, 9, 11: 30
    case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
    default: 31
    }
  }

  /// Days since 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
  private static func dayNumber(_ year: Int64, _ month: Int64, _ day: Int64) -> Int64 {
    let shifted = month <= 2 ? year - 1 : year
    let era = shifted / 400
    let yearOfEra = shifted - era * 400
    let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
    let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
    return era * 146_097 + dayOfEra - 719_468
  }
}

/// A cursor over the bytes of a timestamp.
private struct TimestampReader {
  private var rest: Substring.UTF8View

  init(_ text: String) { rest = text[...].utf8 }

  var isAtEnd: Bool { rest.isEmpty }

  mutating func take(_ character: Unicode.Scalar) -> Bool {
    guard let byte = rest.first, UInt32(byte) == character.value else { return false }
    rest.removeFirst()
    return true
  }

  private mutating func digit() -> Int64? {
    guard let byte = rest.first, (0x30...0x39).contains(byte) else { return nil }
    rest.removeFirst()
    return Int64(byte) - 0x30
  }

  mutating func number(_ digits: Int) -> Int64? {
    var value: Int64 = 0
    for _ in 0..<digits {
      guard let digit = digit() else { return nil }
      value = value * 10 + digit
    }
    return value
  }

  /// Microseconds; nil without a digit.
  mutating func fraction() -> Int64? {
    guard var value = digit() else { return nil }
    var count = 1
    while let digit = digit() {
      if count < 6 { value = value * 10 + digit }
      count = min(6, count + 1)
    }
    for _ in count..<6 { value *= 10 }
    return value
  }

  /// Minutes east of Greenwich.
  mutating func offset() -> Int64? {
    if take("Z") || take("z") { return 0 }
    let sign: Int64
    if take("+") { sign = 1 } else if take("-") { sign = -1 } else { return nil }
    guard let hours = number(2), take(":"), let minutes = number(2), hours < 24, minutes < 60 else {
      return nil
    }
    return sign * (hours * 60 + minutes)
  }
}
