// Owns: how eagerly the socket is read while a backlog drains.
// Must not know: what is read.
import CSystem
import Glibc

/// Naps between rounds of reading. A reader that waits for each message makes the server send each row as a
/// segment of its own; one that lets some milliseconds of rows gather doubles the throughput of both. A round
/// that brought nothing is followed by no nap, so a quiet stream is read at once.
struct ReadingPace {
  /// A stream faster than this, in bytes a second, is a backlog.
  private static let fastRate = 20_000_000.0
  /// A stream slower than this is read at once between transactions: a nap would gather nothing.
  private static let slowRate = 2_000_000.0
  /// A round that brought this much has let enough gather.
  private static let fullRound: UInt64 = 1_000_000
  private static let looks = 6

  private var rate = 0.0
  private var windowStart = MonotonicTime(nanoseconds: 0)
  private var windowBytes: UInt64 = 0
  /// Bytes received when the round began. A round ends with a nap, or when it brought nothing.
  private var roundStart: UInt64 = 0
  private var looksLeft = looks

  /// The socket is empty. Naps, or returns false when it is time to wait for more.
  /// - Parameters:
  ///   - received: bytes received on the connection so far.
  ///   - isInTransaction: the rest of a transaction is on its way.
  mutating func rest(received: UInt64, isInTransaction: Bool, now: MonotonicTime) -> Bool {
    let bytes = received &- roundStart
    guard bytes > 0 else { return false }
    measure(received, now)
    guard rate > Self.fastRate else {
      begin(received)
      if rate < Self.slowRate, !isInTransaction { return false }
      usleep(100)
      return true
    }
    if bytes < Self.fullRound, looksLeft > 0 {
      looksLeft -= 1
      usleep(30)
      return true
    }
    begin(received)
    usleep(5_000)
    return true
  }

  private mutating func begin(_ received: UInt64) {
    roundStart = received
    looksLeft = Self.looks
  }

  private mutating func measure(_ received: UInt64, _ now: MonotonicTime) {
    let elapsed = now.nanoseconds &- windowStart.nanoseconds
    guard elapsed >= 10_000_000 else { return }
    let current = Double(received &- windowBytes) * 1e9 / Double(elapsed)
    // A window that was mostly silence says nothing of the rate before or after.
    rate = elapsed > 1_000_000_000 ? 0 : (rate + current) / 2
    windowStart = now
    windowBytes = received
  }
}
