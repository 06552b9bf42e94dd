// Owns: the name of the topic that was met last.
// Must not know: what is known of the topic.
import Glibc
import RelayCore

/// Rows of one table mostly go to one topic. What was found out about it holds as long as the name is the same.
struct TopicMemory: ~Copyable {
  private static let capacity = CloudEventRules.topicLimit

  private let name: UnsafeMutableRawPointer
  private var count = 0

  init() { name = .allocate(byteCount: Self.capacity, alignment: 1) }

  deinit { name.deallocate() }

  /// True for the topic that was remembered last. Nothing is remembered at first.
  func holds(_ topic: LentBytes) -> Bool {
    guard count > 0, topic.count == count, let start = topic.baseAddress else { return false }
    // SAFETY: both hold `count` bytes.
    return memcmp(name, start, count) == 0
  }

  /// A name that is longer than a topic's may be is not remembered.
  mutating func remember(_ topic: LentBytes) {
    guard let start = topic.baseAddress, topic.count <= Self.capacity else { return }
    // SAFETY: the count is within the capacity.
    memcpy(name, start, topic.count)
    count = topic.count
  }
}
