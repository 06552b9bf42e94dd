// Owns: the proleptic Gregorian calendar, in both directions.
// Must not know: texts, time zones.

/// A day of the calendar. Year 0 is 1 BC. Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
struct CivilDate: Equatable {
  var year: Int64
  var month: Int64
  var day: Int64

  static let microsecondsOfDay: Int64 = 86_400_000_000
  /// Days from 1970-01-01 to 2000-01-01, with which Postgres begins.
  static let postgresEpoch: Int64 = 10_957

  /// Days since 1970-01-01: any number that microseconds can reach.
  @inline(__always)
  init(dayNumber: Int64) {
    // Days from 0000-03-01, so that a leap day is a year's last.
    let shifted = dayNumber + 719_468
    let era = Self.quotient(shifted, 146_097)
    let dayOfEra = shifted - era * 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let shiftedMonth = (5 * dayOfYear + 2) / 153
    day = dayOfYear - (153 * shiftedMonth + 2) / 5 + 1
    month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
    year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
  }

  /// The day, and the microseconds since its midnight. Every value of `time` has both.
  @inline(__always)
  static func split(_ time: PostgresMicroseconds) -> (date: CivilDate, inDay: Int64) {
    let days = quotient(time, microsecondsOfDay)
    return (CivilDate(dayNumber: days + postgresEpoch), time - days * microsecondsOfDay)
  }

  /// Rounded towards minus infinity. A divisor above 1 cannot overflow.
  @inline(__always)
  static func quotient(_ number: Int64, _ divisor: Int64) -> Int64 {
    let (quotient, remainder) = number.quotientAndRemainder(dividingBy: divisor)
    return remainder < 0 ? quotient - 1 : quotient
  }
}
