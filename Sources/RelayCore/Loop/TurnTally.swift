// Owns: the counts of one turn of the loop, so that a row costs no atomic.
// Must not know: what the counts mean.
import Synchronization

/// Plain counters, published together.
struct TurnTally: ~Copyable {
  var received: UInt64 = 0
  var resent: UInt64 = 0
  var recognized: UInt64 = 0
  var unselected: UInt64 = 0
  var transactions: UInt64 = 0
  var queueFull: UInt64 = 0
  private(set) var deliveries: UInt64 = 0
  private var latencySum: UInt64 = 0
  private let buckets: UnsafeMutableBufferPointer<UInt64>
  /// The bucket of the last delivery, and the latencies that belong into it: the next one is mostly of them.
  private var bucket = 0
  private var bucketRange: ClosedRange<Int64> = 0...RelayMetrics.latencyBounds[0]

  init() {
    buckets = .allocate(capacity: RelayMetrics.latencyBounds.count + 1)
    buckets.initialize(repeating: 0)
  }

  deinit { buckets.deallocate() }

  /// What a latency counts for at most, in microseconds: eleven days.
  private static let latencyLimit: Int64 = 1_000_000_000_000

  /// Counts a delivery with its latency in microseconds. A clock that was set back counts as zero.
  mutating func delivered(latency: Int64) {
    deliveries += 1
    let latency = min(max(0, latency), Self.latencyLimit)
    latencySum &+= UInt64(latency)
    if !bucketRange.contains(latency) { findBucket(latency) }
    // SAFETY: the index is the number of bounds at most, and the buffer has one more place than bounds.
    buckets[bucket] += 1
  }

  private mutating func findBucket(_ latency: Int64) {
    let bounds = RelayMetrics.latencyBounds
    bucket = bounds.firstIndex { latency <= $0 } ?? bounds.count
    let lowest = bucket == 0 ? 0 : bounds[bucket - 1] + 1
    bucketRange = lowest...(bucket == bounds.count ? .max : bounds[bucket])
  }

  mutating func publish(to metrics: RelayMetrics) {
    if received > 0 { metrics.eventsReceived.wrappingAdd(received, ordering: .relaxed) }
    if resent > 0 { metrics.eventsResent.wrappingAdd(resent, ordering: .relaxed) }
    if recognized > 0 { metrics.eventsRecognized.wrappingAdd(recognized, ordering: .relaxed) }
    if unselected > 0 { metrics.eventsUnselected.wrappingAdd(unselected, ordering: .relaxed) }
    if transactions > 0 { metrics.transactions.wrappingAdd(transactions, ordering: .relaxed) }
    if queueFull > 0 { metrics.queueFull.wrappingAdd(queueFull, ordering: .relaxed) }
    if deliveries > 0 {
      metrics.eventsDelivered.wrappingAdd(deliveries, ordering: .relaxed)
      metrics.latency.add(buckets: UnsafeBufferPointer(buckets), sum: latencySum)
      buckets.update(repeating: 0)
    }
    received = 0
    resent = 0
    recognized = 0
    unselected = 0
    transactions = 0
    queueFull = 0
    deliveries = 0
    latencySum = 0
  }
}
