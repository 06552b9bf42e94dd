// Owns: the topic that was met last, and the text that it was found by.
// Must not know: what is known of the topic.
import Glibc

/// The topic that a text led to last: of the value of a column, or of the topic's own name. Rows of one table mostly go
/// to one topic, and what was found out holds as long as the text is the same.
public struct TopicMemory: ~Copyable {
  private struct Counts: BitwiseCopyable {
    /// Negative: nothing is remembered.
    var text: Int
    var topic: Int
  }

  private static let limit = CloudEventRules.topicLimit

  /// The counts, behind them the text, and behind it the topic.
  private let memory: UnsafeMutableRawPointer
  private var counts: UnsafeMutablePointer<Counts> { memory.assumingMemoryBound(to: Counts.self) }
  private var bytes: UnsafeMutableRawPointer { memory + MemoryLayout<Counts>.stride }

  public init() {
    memory = .allocate(
      byteCount: MemoryLayout<Counts>.stride + 2 * Self.limit, alignment: MemoryLayout<Counts>.alignment)
    // SAFETY: the memory begins with room for the counts, aligned.
    memory.bindMemory(to: Counts.self, capacity: 1).initialize(to: Counts(text: -1, topic: 0))
  }

  deinit { memory.deallocate() }

  /// Lent until the following `remember`. Nil where the text is another one.
  @inline(__always)
  public func topic(of text: LentBytes) -> LentBytes? {
    let counts = counts.pointee
    guard text.count == counts.text, let start = text.baseAddress else { return nil }
    // SAFETY: both hold that many bytes, and the topic lies behind them.
    guard memcmp(bytes, start, counts.text) == 0 else { return nil }
    return LentBytes(start: bytes + counts.text, count: counts.topic)
  }

  /// What is longer than a topic's name may be, 249 bytes, is not remembered.
  public func remember(_ topic: LentBytes, of text: LentBytes) {
    guard let name = topic.baseAddress, topic.count <= Self.limit,
      let start = text.baseAddress, text.count <= Self.limit
    else { return }
    // SAFETY: both counts are within their limits, which is what the memory has room for.
    memcpy(bytes, start, text.count)
    memcpy(bytes + text.count, name, topic.count)
    counts.pointee = Counts(text: text.count, topic: topic.count)
  }
}
