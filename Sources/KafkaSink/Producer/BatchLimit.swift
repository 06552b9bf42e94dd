// Owns: how large batches may be, as far as a topic's refusal has taught it.
// Must not know: librdkafka, and which topic it was.

/// librdkafka has one batch.size for all topics, and does not split a batch that a broker refuses. What a topic has
/// refused is remembered for the producers that follow. Confined to the relay's thread.
public final class BatchLimit {
  /// Nil: as configured.
  private(set) var bytes: Int?

  public init() {}

  /// Takes a batch that a topic refused as too large.
  /// - Parameters:
  ///   - current: the batch.size in force.
  ///   - batch: what the refused records take, about.
  ///   - topicLimit: the topic's max.message.bytes; nil where it is not known.
  /// - Returns: the new limit. It is always smaller, so that refusals end at batches of one record.
  func shrink(_ current: Int, batch: Int, topicLimit: Int?) -> Int {
    let halved = max(1, min(current, batch) / 2)
    let next = topicLimit.flatMap { (1..<current).contains($0) ? $0 : nil } ?? halved
    bytes = next
    return next
  }
}
