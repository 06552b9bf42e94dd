// Owns: the name of the topic that was found valid last.
// Must not know: what a topic's name is made of.
import Glibc

/// Rows of one table mostly go to one topic, whose name needs no second check.
struct CheckedTopic: ~Copyable {
  private static let capacity = 249

  private let name: UnsafeMutableRawPointer
  private var count = 0

  init() { name = .allocate(byteCount: Self.capacity, alignment: 1) }

  deinit { name.deallocate() }

  /// True for what Kafka takes as the name of a topic.
  @inline(__always)
  mutating func admits(_ topic: LentBytes) -> Bool {
    guard let start = topic.baseAddress else { return false }
    // SAFETY: both hold `count` bytes.
    if count > 0, topic.count == count, memcmp(name, start, count) == 0 { return true }
    return check(topic, start)
  }

  @inline(never)
  private mutating func check(_ topic: LentBytes, _ start: UnsafeRawPointer) -> Bool {
    guard CloudEventRules.isTopic(topic), topic.count <= Self.capacity else { return false }
    // SAFETY: the count is within the capacity.
    memcpy(name, start, topic.count)
    count = topic.count
    return true
  }
}
