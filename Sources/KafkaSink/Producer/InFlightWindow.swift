// Owns: how many records may be in flight, between what stays in the processor's cache and what fills a long way.
// Must not know: librdkafka.
import RelayCore

/// What is in flight is copied three times on its way, and freed once more. As long as it fits into a core's own cache
/// that costs about a fifth less CPU than with twice as much. Many partitions need more in flight, since each has
/// requests of its own, which leave one after the other. So does a Kafka that is far away: a window that holds records
/// back is doubled for a trial, and stays so where more is delivered then. It starts over once so many are no longer needed.
struct InFlightWindow {
  /// Records.
  private(set) var limit: Int
  private var lowest: Int
  private let highest: Int

  private var start = MonotonicTime(nanoseconds: 0)
  private var startCount: UInt64 = 0
  /// The lowest limit was reached in this interval.
  private var isNeeded = false
  /// So was the limit.
  private var isFull = false
  /// The lowest limit was reached in the last interval too: a backlog that has just begun, or a broker that wakes up,
  /// is no measure.
  private var isWarm = false
  /// The trial has just begun: what is delivered now was sent before.
  private var isOpening = false
  /// Deliveries a second before the trial that is on.
  private var baseline: Double?
  private var limitBefore: Int
  private var nextTrial = MonotonicTime(nanoseconds: 0)

  /// - Parameters:
  ///   - highest: what librdkafka's queue takes.
  ///   - isAdaptive: false for a window that is the whole queue.
  init(lowest: Int = Tuning.InFlight.records, highest: Int, isAdaptive: Bool = true) {
    self.highest = max(1, highest)
    self.lowest = isAdaptive ? min(lowest, self.highest) : self.highest
    limit = self.lowest
    limitBefore = limit
  }

  /// For which of Kafka's partitions there is to be room, of all topics together.
  mutating func serve(partitions: Int) {
    lowest = max(lowest, min(partitions * Tuning.InFlight.recordsOfPartition, highest))
    limit = max(limit, lowest)
  }

  /// True where one more record is too many.
  @inline(__always)
  mutating func holdsBack(_ inFlight: Int) -> Bool {
    if inFlight < lowest { return false }
    isNeeded = true
    guard inFlight >= limit else { return false }
    isFull = true
    return true
  }

  /// - Parameter delivered: deliveries so far.
  mutating func observe(delivered: UInt64, now: MonotonicTime) {
    guard now >= start.advanced(milliseconds: Tuning.InFlight.interval) else { return }
    let rate = Double(delivered &- startCount) * 1e9 / Double(now.nanoseconds &- start.nanoseconds)
    start = now
    startCount = delivered
    defer {
      isWarm = isNeeded
      isNeeded = false
      isFull = false
    }
    guard isNeeded else {
      limit = lowest
      baseline = nil
      isOpening = false
      return
    }
    guard isWarm else {
      nextTrial = now.advanced(milliseconds: Tuning.InFlight.patience)
      return
    }
    if isOpening {
      isOpening = false
      return
    }
    if let before = baseline {
      baseline = nil
      if rate < before * Tuning.InFlight.gain {
        limit = max(limitBefore, lowest)
        nextTrial = now.advanced(milliseconds: Tuning.InFlight.rest)
      }
    }
    if isFull, limit < highest, now >= nextTrial, rate > 0 {
      limitBefore = limit
      limit = min(limit * 2, highest)
      baseline = rate
      isOpening = true
    }
  }
}
