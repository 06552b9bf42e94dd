// Owns: which moment a time without a zone means in a declared zone: the offsets of one zone, and Postgres' choice where
// a local time occurs twice or never.
// Must not know: where the offsets come from.

/// The offsets of a time zone.
public struct TimeZoneRules: Equatable, Sendable {
  /// From `start` on clocks are `seconds` ahead of UTC.
  public struct Offset: Equatable, Sendable, BitwiseCopyable {
    /// Seconds since 1970.
    public var start: Int64
    public var seconds: Int64

    public init(start: Int64, seconds: Int64) {
      self.start = start
      self.seconds = seconds
    }
  }

  /// IANA's name.
  public let name: String
  /// Not empty, ascending. The first one counts for all times before it too.
  public let offsets: [Offset]

  public init(name: String, offsets: [Offset]) {
    self.name = name
    self.offsets = offsets.isEmpty ? [Offset(start: .min, seconds: 0)] : offsets
  }

  public static let utc = TimeZoneRules(name: "UTC", offsets: [])

  /// The moment that Postgres takes `local AT TIME ZONE name` for.
  public func moment(local: PostgresMicroseconds) -> PostgresMicroseconds {
    offsets.withUnsafeBufferPointer { LocalTime(offsets: $0).moment(local: local) }
  }
}

/// The offsets of a zone where they are looked at for each row. Lent by whoever owns them; never empty.
struct LocalTime: BitwiseCopyable {
  let offsets: UnsafeBufferPointer<TimeZoneRules.Offset>

  private static let unixEpoch: Int64 = PostgresMicroseconds.unixEpochOffset / 1_000_000
  private static let secondsOfDay: Int64 = 86_400

  /// As `DetermineTimeZoneOffset` of src/backend/utils/adt/datetime.c does it. An infinity stays what it is.
  func moment(local: PostgresMicroseconds) -> PostgresMicroseconds {
    if local == .max || local == .min { return local }
    let seconds = CivilDate.quotient(local, 1_000_000) + Self.unixEpoch
    let (moment, overflow) = local.subtractingReportingOverflow(offset(local: seconds) * 1_000_000)
    if overflow { return local < 0 ? .min : .max }
    return moment
  }

  /// In a gap the offset from before it counts, in a fold the one from after it.
  private func offset(local: Int64) -> Int64 {
    let before = index(at: local - Self.secondsOfDay)
    guard before + 1 < offsets.count else { return offsets[before].seconds }
    let (former, next) = (offsets[before], offsets[before + 1])
    let (beforeTime, afterTime) = (local - former.seconds, local - next.seconds)
    if beforeTime < next.start && afterTime < next.start { return former.seconds }
    if beforeTime > next.start && afterTime >= next.start { return next.seconds }
    return beforeTime > afterTime ? former.seconds : next.seconds
  }

  /// The last offset that began at or before `time`; else the first.
  private func index(at time: Int64) -> Int {
    var (low, high) = (0, offsets.count)
    while high - low > 1 {
      let middle = (low + high) / 2
      if offsets[middle].start <= time { low = middle } else { high = middle }
    }
    return low
  }
}
