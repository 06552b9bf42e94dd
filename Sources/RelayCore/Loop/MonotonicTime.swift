// Owns: the clock of all timers. Steps of the wall clock do not move it.
// Must not know: what is timed.
import CSystem
import Glibc

/// Nanoseconds of `CLOCK_MONOTONIC`.
public struct MonotonicTime: Comparable, Hashable, Sendable {
  public var nanoseconds: UInt64

  public static let never = MonotonicTime(nanoseconds: .max)

  @inlinable
  public init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

  public static func now() -> MonotonicTime {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return MonotonicTime(nanoseconds: UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec))
  }

  @inlinable
  public static func < (left: MonotonicTime, right: MonotonicTime) -> Bool {
    left.nanoseconds < right.nanoseconds
  }

  /// Saturates at `.never`.
  @inlinable
  public func advanced(milliseconds: Int) -> MonotonicTime {
    let (duration, isTooLong) = UInt64(max(0, milliseconds)).multipliedReportingOverflow(by: 1_000_000)
    let (sum, isTooLate) = nanoseconds.addingReportingOverflow(duration)
    return isTooLong || isTooLate ? .never : MonotonicTime(nanoseconds: sum)
  }

  /// Whole milliseconds until `later`, rounded up; 0 when it has come; at most `limit`.
  @inlinable
  public func milliseconds(until later: MonotonicTime, limit: Int) -> Int {
    guard later > self else { return 0 }
    let difference = later.nanoseconds - nanoseconds
    return min(limit, Int(min(difference / 1_000_000, UInt64(Int32.max))) + 1)
  }
}

/// Microseconds since 2000-01-01 00:00 UTC by the wall clock: what Postgres calls now.
public func postgresNow() -> PostgresMicroseconds {
  var time = timespec()
  clock_gettime(CLOCK_REALTIME, &time)
  return Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1000 - .unixEpochOffset
}
