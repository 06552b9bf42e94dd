// Owns: the name of the topic that was met last, and the column's value that it was made of.
// Must not know: what is known of the topic.
import Glibc

// Rows of one table mostly go to one topic.

/// The topic that was made of a column's value last: it is the same for the same value.
struct TopicOfValue: ~Copyable {
  /// Values beyond this size are not remembered, in bytes.
  private static let valueLimit = CloudEventRules.topicLimit

  /// The value, and behind it the topic.
  private let bytes: UnsafeMutableRawPointer
  private var valueCount = -1
  private var topicCount = 0

  init() {
    bytes = .allocate(byteCount: Self.valueLimit + CloudEventRules.topicLimit, alignment: 1)
  }

  deinit { bytes.deallocate() }

  /// Lent until the following `remember`. Nil where the value is another one.
  @inline(__always)
  func topic(of value: LentBytes) -> LentBytes? {
    guard value.count == valueCount, let start = value.baseAddress else { return nil }
    // SAFETY: both hold `valueCount` bytes, and the topic lies behind them.
    guard memcmp(bytes, start, valueCount) == 0 else { return nil }
    return LentBytes(start: bytes + valueCount, count: topicCount)
  }

  mutating func remember(_ topic: LentBytes, of value: LentBytes) {
    guard let name = topic.baseAddress, topic.count <= CloudEventRules.topicLimit,
      let start = value.baseAddress, value.count <= Self.valueLimit
    else { return }
    // SAFETY: both counts are within their limits, which is what the memory has room for.
    memcpy(bytes, start, value.count)
    memcpy(bytes + value.count, name, topic.count)
    valueCount = value.count
    topicCount = topic.count
  }
}

/// What was found out about a topic holds as long as the name is the same.
public struct TopicMemory: ~Copyable {
  private static let capacity = CloudEventRules.topicLimit

  private let name: UnsafeMutableRawPointer
  private var count = 0

  public init() { name = .allocate(byteCount: Self.capacity, alignment: 1) }

  deinit { name.deallocate() }

  /// True for the topic that was remembered last. Nothing is remembered at first.
  public func holds(_ topic: LentBytes) -> Bool {
    guard count > 0, topic.count == count, let start = topic.baseAddress else { return false }
    // SAFETY: both hold `count` bytes.
    return memcmp(name, start, count) == 0
  }

  /// A name that is longer than a topic's may be is not remembered.
  public mutating func remember(_ topic: LentBytes) {
    guard let start = topic.baseAddress, topic.count <= Self.capacity else { return }
    // SAFETY: the count is within the capacity.
    memcpy(name, start, topic.count)
    count = topic.count
  }
}
