// Owns: how many records may be in flight, between what stays in the processor's cache and what fills a long way.
// Must not know: librdkafka.
import RelayCore

/// What is in flight is copied three times on its way, and freed once more. As long as it fits into the cache that
/// costs about a fifth less CPU than with all that the queue may hold. A Kafka that is far away, or thousands of
/// partitions, need more in flight. So a window that holds records back is opened for a trial, and stays so where
/// more is delivered then. It begins anew once so many are not needed.
struct InFlightWindow {
  /// Records.
  private(set) var limit: Int
  private let lowest: Int
  private let highest: Int

  // Milliseconds.
  private static let interval = 500
  private static let patience = 2_000
  private static let rest = 30_000
  /// A trial has to bring so much more. Where the way is long, four times the window may bring four times as much.
  private static let gain = 1.3

  private var start = MonotonicTime(nanoseconds: 0)
  private var startCount: UInt64 = 0
  /// The lowest limit was reached in this interval.
  private var isNeeded = false
  /// And in the last one too: a backlog that has just begun, or a broker that wakes up, is no measure.
  private var isWarm = false
  /// The trial has just begun: what is delivered now was sent before.
  private var isOpening = false
  /// Deliveries a second before the trial that is on.
  private var baseline: Double?
  private var nextTrial = MonotonicTime(nanoseconds: 0)

  /// - Parameter highest: what librdkafka's queue takes.
  init(lowest: Int = 4096, highest: Int) {
    self.highest = max(1, highest)
    self.lowest = min(lowest, self.highest)
    limit = self.lowest
  }

  /// True where one more record is too many.
  @inline(__always)
  mutating func holdsBack(_ inFlight: Int) -> Bool {
    if inFlight < lowest { return false }
    isNeeded = true
    return inFlight >= limit
  }

  /// - Parameter delivered: deliveries so far.
  mutating func observe(delivered: UInt64, now: MonotonicTime) {
    guard now >= start.advanced(milliseconds: Self.interval) else { return }
    let rate = Double(delivered &- startCount) * 1e9 / Double(now.nanoseconds &- start.nanoseconds)
    start = now
    startCount = delivered
    defer {
      isWarm = isNeeded
      isNeeded = false
    }
    guard isNeeded else {
      limit = lowest
      baseline = nil
      isOpening = false
      return
    }
    guard isWarm else {
      nextTrial = now.advanced(milliseconds: Self.patience)
      return
    }
    if isOpening {
      isOpening = false
      return
    }
    if let before = baseline {
      baseline = nil
      guard rate < before * Self.gain else { return }
      limit = lowest
      nextTrial = now.advanced(milliseconds: Self.rest)
    } else if limit < highest, now >= nextTrial, rate > 0 {
      limit = highest
      baseline = rate
      isOpening = true
    }
  }
}
