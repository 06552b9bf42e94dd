// Owns: reading topics, for a person's eyes and for tests: every partition, no group, no commits.
// Must not know: what a record means.
import CRdkafka
import Glibc
public import RelayCore

/// Reads all partitions of the topics that a test admits, new topics and partitions included.
/// Confined to the thread that made it.
public final class KafkaConsumer {
  public enum Start: Sendable {
    case beginning
    case end
  }

  private struct Partition: Hashable {
    var topic: String
    var number: Int32
  }

  private let client: OpaquePointer
  private let queue: OpaquePointer
  private let admits: (String) -> Bool
  private let refreshMilliseconds: Int
  private var topics: [String: OpaquePointer] = [:]
  private var partitions: Set<Partition> = []
  private var refreshTime = MonotonicTime(nanoseconds: 0)
  private var start: Start
  /// The newest error that librdkafka has told; nil when a record has come since.
  public private(set) var trouble: String?

  /// - Parameters:
  ///   - properties: librdkafka's; those for producers alone are left out.
  ///   - start: where the topics that are there now begin. Topics that come later begin at their beginning.
  ///   - refreshMilliseconds: how often new topics are looked for.
  ///   - admits: whether a topic of that name is read.
  /// - Throws: `configurationInvalid`, `sinkDenied` where a file cannot be read.
  public init(
    settings: KafkaSettings, start: Start = .beginning, refreshMilliseconds: Int = 1000,
    admits: @escaping (String) -> Bool
  ) throws(RelayError) {
    client = try KafkaProperties.client(RD_KAFKA_CONSUMER, KafkaProperties.consumerConfiguration(settings))
    guard let queue = rd_kafka_queue_new(client) else {
      rd_kafka_destroy(client)
      throw RelayError(.failed, "librdkafka gave no queue")
    }
    self.queue = queue
    self.start = start
    self.refreshMilliseconds = refreshMilliseconds
    self.admits = admits
  }

  deinit {
    for partition in partitions {
      if let topic = topics[partition.topic] { rd_kafka_consume_stop(topic, partition.number) }
    }
    rd_kafka_queue_destroy(queue)
    for topic in topics.values { rd_kafka_topic_destroy(topic) }
    rd_kafka_destroy(client)
  }

  /// The number of partitions that are being read.
  public var partitionCount: Int { partitions.count }

  /// The next record, or nil when `milliseconds` have passed without one. While Kafka is away it is nil,
  /// and `trouble` says why.
  public func next(milliseconds: Int) -> ConsumedRecord? {
    let deadline = MonotonicTime.now().advanced(milliseconds: milliseconds)
    while true {
      refresh()
      takeEvents()
      let now = MonotonicTime.now()
      let wait = min(
        now.milliseconds(until: deadline, limit: 60_000), now.milliseconds(until: refreshTime, limit: 60_000))
      if let message = rd_kafka_consume_queue(queue, Int32(wait)) {
        defer { rd_kafka_message_destroy(message) }
        if let record = Self.record(message) {
          trouble = nil
          return record
        }
      }
      if MonotonicTime.now() >= deadline { return nil }
    }
  }

  /// Starts to read what is new, when it is time.
  private func refresh() {
    guard MonotonicTime.now() >= refreshTime else { return }
    defer { refreshTime = MonotonicTime.now().advanced(milliseconds: refreshMilliseconds) }
    var metadata: UnsafePointer<rd_kafka_metadata>?
    let code = rd_kafka_metadata(client, 1, nil, &metadata, 500)
    guard code == RD_KAFKA_RESP_ERR_NO_ERROR, let metadata else {
      trouble = trouble ?? KafkaFailure.text(code)
      return
    }
    defer { rd_kafka_metadata_destroy(metadata) }
    var isComplete = true
    // SAFETY: the metadata holds `topic_cnt` topics with `partition_cnt` partitions each, until destroyed.
    for topic in UnsafeBufferPointer(start: metadata.pointee.topics, count: Int(metadata.pointee.topic_cnt)) {
      guard let cName = topic.topic else { continue }
      let name = String(cString: cName)
      guard admits(name) else { continue }
      for partition in UnsafeBufferPointer(start: topic.partitions, count: Int(topic.partition_cnt)) {
        isComplete = read(Partition(topic: name, number: partition.id)) && isComplete
      }
    }
    // What is not there yet begins at its beginning.
    if isComplete { start = .beginning }
  }

  /// True if the partition is being read.
  private func read(_ partition: Partition) -> Bool {
    if partitions.contains(partition) { return true }
    guard let topic = topics[partition.topic] ?? rd_kafka_topic_new(client, partition.topic, nil)
    else { return false }
    topics[partition.topic] = topic
    guard let offset = offset(partition),
      rd_kafka_consume_start_queue(topic, partition.number, offset, queue) == 0
    else { return false }
    partitions.insert(partition)
    return true
  }

  /// Nil where the end could not be learnt; the next attempt asks again. The end is asked for now: as a mark
  /// that is resolved later, it would pass over what comes in between.
  private func offset(_ partition: Partition) -> Int64? {
    guard start == .end else { return Int64(RD_KAFKA_OFFSET_BEGINNING) }
    var low: Int64 = 0
    var high: Int64 = 0
    let code = rd_kafka_query_watermark_offsets(
      client, partition.topic, partition.number, &low, &high, 1000)
    return code == RD_KAFKA_RESP_ERR_NO_ERROR ? high : nil
  }

  /// Looks topics up by name, which makes a broker create them where its owner and
  /// `allow.auto.create.topics` let it, and waits until all of them are read.
  /// - Returns: false where `milliseconds` were not enough.
  public func lookUp(_ names: [String], milliseconds: Int) -> Bool {
    let deadline = MonotonicTime.now().advanced(milliseconds: milliseconds)
    while true {
      for name in names { lookUp(name) }
      refreshTime = MonotonicTime(nanoseconds: 0)
      refresh()
      takeEvents()
      if names.allSatisfy({ name in partitions.contains { $0.topic == name } }) { return true }
      if MonotonicTime.now() >= deadline { return false }
      usleep(50_000)
    }
  }

  private func lookUp(_ name: String) {
    guard let topic = topics[name] ?? rd_kafka_topic_new(client, name, nil) else { return }
    topics[name] = topic
    var metadata: UnsafePointer<rd_kafka_metadata>?
    _ = rd_kafka_metadata(client, 0, topic, &metadata, 500)
    if let metadata { rd_kafka_metadata_destroy(metadata) }
  }

  private func takeEvents() {
    guard let main = rd_kafka_queue_get_main(client) else { return }
    defer { rd_kafka_queue_destroy(main) }
    while let event = rd_kafka_queue_poll(main, 0) {
      if rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR, let text = rd_kafka_event_error_string(event) {
        // SAFETY: the text lives until the event is destroyed, and is copied here.
        trouble = String(cString: text)
      }
      rd_kafka_event_destroy(event)
    }
  }

  /// Nil where the message is not a record but an error, which librdkafka corrects by itself.
  private static func record(_ message: UnsafeMutablePointer<rd_kafka_message_t>) -> ConsumedRecord? {
    guard message.pointee.err == RD_KAFKA_RESP_ERR_NO_ERROR, let topic = message.pointee.rkt,
      let name = rd_kafka_topic_name(topic)
    else { return nil }
    let timestamp = rd_kafka_message_timestamp(message, nil)
    // SAFETY: the message's parts live until it is destroyed by the caller, and are copied here.
    return ConsumedRecord(
      topic: String(cString: name), partition: message.pointee.partition, offset: message.pointee.offset,
      timestamp: timestamp, key: bytes(message.pointee.key, message.pointee.key_len),
      value: bytes(message.pointee.payload, message.pointee.len), headers: headers(of: message))
  }

  private static func bytes(_ start: UnsafeRawPointer?, _ count: Int) -> [UInt8]? {
    // SAFETY: librdkafka gives `count` bytes at `start`.
    start.map { Array(UnsafeRawBufferPointer(start: $0, count: count)) }
  }

  private static func headers(
    of message: UnsafeMutablePointer<rd_kafka_message_t>
  ) -> [ConsumedRecord.Header] {
    var list: OpaquePointer?
    guard rd_kafka_message_headers(message, &list) == RD_KAFKA_RESP_ERR_NO_ERROR, let list else { return [] }
    var result: [ConsumedRecord.Header] = []
    var name: UnsafePointer<CChar>?
    var value: UnsafeRawPointer?
    var size = 0
    while rd_kafka_header_get_all(list, result.count, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR {
      guard let name else { break }
      // SAFETY: name is NUL-terminated, value has `size` bytes; both live while the message does.
      result.append(.init(name: String(cString: name), value: bytes(value, size)))
    }
    return result
  }
}
