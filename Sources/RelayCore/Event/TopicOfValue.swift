// Owns: the topic that was made last, and the column's value that it was made of.
// Must not know: what is known of the topic.
import Glibc

/// The topic that was made of a column's value last: it is the same for the same value. Rows of one table mostly go to
/// one topic.
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
