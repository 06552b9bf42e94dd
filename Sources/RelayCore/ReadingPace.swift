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
  /// A round that brought this much has let enough gather.
  private static let fullRound: UInt64 = 1_000_000
  private static let looks = 6

  private var rate = 0.0
  private var windowStart = MonotonicTime(nanoseconds: 0)
  private var windowBytes: UInt64 = 0
  private var looksLeft = looks

  /// The socket is empty, after a round that brought `received` bytes.
  mutating func nap(received: UInt64, now: MonotonicTime) {
    windowBytes += received
    let elapsed = now.nanoseconds &- windowStart.nanoseconds
    if elapsed >= 10_000_000 {
      let current = Double(windowBytes) * 1e9 / Double(elapsed)
      // A window that was mostly silence says nothing of the rate before or after.
      rate = elapsed > 1_000_000_000 ? 0 : (rate + current) / 2
      windowStart = now
      windowBytes = 0
    }
    guard rate > Self.fastRate else {
      usleep(100)
      return
    }
    if received < Self.fullRound, looksLeft > 0 {
      looksLeft -= 1
      usleep(30)
      return
    }
    looksLeft = Self.looks
    usleep(5_000)
  }
}
