// Owns: the names and partitions of all topics of the cluster, for the time in which many topics are seen for the first
// time.
// Must not know: records; what follows from a topic that is not among them.
import CRdkafka
import RelayCore

/// One question for all topics in place of a blocking question for each. Where first sights are rare it asks nothing:
/// a large cluster's answer has megabytes.
struct TopicSurvey {
  /// First sights within a second that are asked for one by one.
  private static let singleSights = 8
  /// Milliseconds for which an answer, or the lack of one, counts.
  private static let validity = 1_000

  private var partitions: [String: Int] = [:]
  private var end = MonotonicTime(nanoseconds: 0)
  private var sights = 0
  private var windowEnd = MonotonicTime(nanoseconds: 0)

  /// How many partitions the topic had a second ago at most. Nil is no answer: the topic must be asked for by itself.
  /// Blocks for as long as `milliseconds` where it asks.
  mutating func partitions(
    of name: String, client: OpaquePointer, milliseconds: Int32, now: MonotonicTime
  ) -> Int? {
    if now >= end {
      partitions = [:]
      if now >= windowEnd {
        windowEnd = now.advanced(milliseconds: Self.validity)
        sights = 0
      }
      sights += 1
      guard sights > Self.singleSights else { return nil }
      ask(client, milliseconds: milliseconds)
      end = MonotonicTime.now().advanced(milliseconds: Self.validity)
    }
    return partitions[name]
  }

  private mutating func ask(_ client: OpaquePointer, milliseconds: Int32) {
    var metadata: UnsafePointer<rd_kafka_metadata>?
    guard rd_kafka_metadata(client, 1, nil, &metadata, milliseconds) == RD_KAFKA_RESP_ERR_NO_ERROR,
      let metadata
    else { return }
    defer { rd_kafka_metadata_destroy(metadata) }
    // SAFETY: librdkafka returns `topic_cnt` topics with their names, alive until the metadata is destroyed.
    for topic in UnsafeBufferPointer(start: metadata.pointee.topics, count: Int(metadata.pointee.topic_cnt))
    where topic.err == RD_KAFKA_RESP_ERR_NO_ERROR && topic.partition_cnt > 0 {
      partitions[String(cString: topic.topic)] = Int(topic.partition_cnt)
    }
  }
}
