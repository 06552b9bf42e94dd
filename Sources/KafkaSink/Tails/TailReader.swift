// Owns: a consumer that reads ranges of offsets of a topic's partitions: no group, no commits, nothing is created.
// Must not know: what follows from the messages, how far back to read.
import CRdkafka
import Glibc
import RelayCore

/// Confined to the thread that made it.
final class TailReader {
  struct Partition: Equatable {
    var number: Int32
    var low: Int64
    var high: Int64
  }

  /// A range of one partition, and what came of reading it.
  struct Reading {
    enum End: Equatable {
      /// Nothing is missing up to `high`.
      case complete
      case failed(rd_kafka_resp_err_t)
      case outOfRoom
      /// Here begins a transaction that is neither committed nor aborted: what lies behind cannot be read.
      case openTransaction(at: Int64)
    }

    let partition: Partition
    let start: Int64
    var tail: PartitionTail
    /// Messages before `high`. Fewer than offsets: some are gone, or are the marks of transactions.
    var messages: Int64 = 0
    /// Nil: the time was not enough.
    var end: End?
  }

  enum Failure: Error, Equatable {
    /// No broker answers this consumer, or the topic has no leader at the moment or such.
    case notNow(rd_kafka_resp_err_t)
    case missing
    case refused(rd_kafka_resp_err_t)
  }

  /// How long one question may take, in milliseconds.
  var patience = KafkaSink.patience
  /// The newest error that librdkafka has told of this consumer's connections.
  private(set) var trouble: String?
  /// Topics that were asked about.
  var topicCount: Int { topics.count }

  private let client: OpaquePointer
  private let turn: () -> Void
  private var topics: [String: OpaquePointer] = [:]

  /// Which messages count, and where a partition ends.
  enum Isolation: String {
    /// Not those of transactions that are open or aborted. A partition ends where the first open one begins.
    case committed = "read_committed"
    /// All. A partition ends behind the last.
    case uncommitted = "read_uncommitted"
  }

  /// - Parameter turn: called before and after everything that blocks, and now and then while it reads.
  /// - Throws: `configurationInvalid`, `sinkDenied` where a file cannot be read.
  init(
    _ settings: KafkaSettings, _ isolation: Isolation = .committed, turn: @escaping () -> Void = {}
  ) throws(RelayError) {
    self.turn = turn
    let largest = KafkaProperties.number("message.max.bytes", settings)
    client = try KafkaProperties.client(
      RD_KAFKA_CONSUMER,
      KafkaProperties.consumerConfiguration(
        settings,
        overriding: [
          ("allow.auto.create.topics", "false"),
          ("auto.offset.reset", "error"),
          // The end is told even where it is a gap or a transaction's mark.
          ("enable.partition.eof", "true"),
          ("isolation.level", isolation.rawValue),
          ("fetch.wait.max.ms", "10"),
          ("fetch.error.backoff.ms", "50"),
          // Of each partition that is read at a time.
          ("queued.max.messages.kbytes", "4096"),
          ("receive.message.max.bytes", String(min(1_000_000_000, max(100_000_000, largest * 2)))),
        ]))
  }

  deinit {
    for topic in topics.values { rd_kafka_topic_destroy(topic) }
    rd_kafka_destroy(client)
  }

  // MARK: Questions

  /// The partitions of a topic, with the first offset and the one after the last.
  func partitions(of name: String) throws(Failure) -> [Partition] {
    turn()
    takeEvents()
    guard let topic = topic(name) else { throw .refused(rd_kafka_last_error()) }
    var metadata: UnsafePointer<rd_kafka_metadata>?
    let code = rd_kafka_metadata(client, 0, topic, &metadata, patience)
    turn()
    takeEvents()
    guard code == RD_KAFKA_RESP_ERR_NO_ERROR, let metadata else { throw .notNow(code) }
    defer { rd_kafka_metadata_destroy(metadata) }
    // SAFETY: the metadata holds `topic_cnt` topics with `partition_cnt` partitions each, until destroyed.
    guard metadata.pointee.topic_cnt > 0, let found = metadata.pointee.topics else { throw .missing }
    if found.pointee.err != RD_KAFKA_RESP_ERR_NO_ERROR { throw Self.failure(found.pointee.err) }
    var partitions: [Partition] = []
    for partition in UnsafeBufferPointer(
      start: found.pointee.partitions, count: Int(found.pointee.partition_cnt))
    {
      partitions.append(Partition(number: partition.id, low: 0, high: 0))
    }
    try measure(&partitions, of: name)
    return partitions
  }

  /// Asks for the first offsets and those after the last, each in one request to each leader.
  func measure(_ partitions: inout [Partition], of name: String) throws(Failure) {
    let lows = try offsets(Int64(RD_KAFKA_OFFSET_BEGINNING), of: partitions, name)
    let highs = try offsets(Int64(RD_KAFKA_OFFSET_END), of: partitions, name)
    for index in partitions.indices {
      partitions[index].low = lows[index]
      partitions[index].high = highs[index]
    }
  }

  /// - Parameter place: the beginning or the end, which Kafka takes in place of a time.
  private func offsets(
    _ place: Int64, of partitions: [Partition], _ name: String
  ) throws(Failure) -> [Int64] {
    guard !partitions.isEmpty else { return [] }
    guard let list = rd_kafka_topic_partition_list_new(Int32(clamping: partitions.count)) else {
      throw .notNow(RD_KAFKA_RESP_ERR__CRIT_SYS_RESOURCE)
    }
    defer { rd_kafka_topic_partition_list_destroy(list) }
    for partition in partitions {
      rd_kafka_topic_partition_list_add(list, name, partition.number)?.pointee.offset = place
    }
    turn()
    let code = rd_kafka_offsets_for_times(client, list, patience)
    turn()
    if code != RD_KAFKA_RESP_ERR_NO_ERROR { throw Self.failure(code) }
    var offsets: [Int64] = []
    // SAFETY: the list holds `cnt` elements, those that were added and in their order, until it is destroyed.
    for element in UnsafeBufferPointer(start: list.pointee.elems, count: Int(list.pointee.cnt)) {
      if element.err != RD_KAFKA_RESP_ERR_NO_ERROR { throw Self.failure(element.err) }
      offsets.append(element.offset)
    }
    return offsets
  }

  private static func failure(_ code: rd_kafka_resp_err_t) -> Failure {
    switch KafkaFailure(code) {
    case .topicMissing: .missing
    case .unreachable, .passing: .notNow(code)
    default: .refused(code)
    }
  }

  private func topic(_ name: String) -> OpaquePointer? {
    if let topic = topics[name] { return topic }
    let topic = rd_kafka_topic_new(client, name, nil)
    topics[name] = topic
    return topic
  }

  /// Why the end of a topic cannot be read. Nil: it can, or that is not known.
  func refusal(of name: String) -> rd_kafka_resp_err_t? {
    guard let partition = try? partitions(of: name).first else { return nil }
    // There is nothing behind the end: Kafka answers with it, or that this may not be read.
    let beyond = Partition(number: partition.number, low: partition.low, high: partition.high + 1)
    let readings = read(
      [(beyond, partition.high)], of: name, after: .zero, room: 1,
      until: MonotonicTime.now().advanced(milliseconds: Int(KafkaSink.patience(attempts: 1))))
    guard case .failed(let code) = readings.first?.end else { return nil }
    return code
  }

  // MARK: Reading

  /// Reads the ranges side by side, each from `start` to its partition's `high`.
  /// - Parameters:
  ///   - room: how many events may be kept.
  ///   - observe: called with each message that has a sequence and is no replay, and its time in milliseconds since
  ///     1970, or -1.
  func read(
    _ ranges: [(partition: Partition, start: Int64)], of name: String, after: LSN, room: Int,
    until deadline: MonotonicTime,
    observe: (Record, EventSequence, _ timestamp: Int64) -> Void = { _, _, _ in }
  ) -> [Reading] {
    var readings = ranges.map {
      Reading(
        partition: $0.partition, start: $0.start, tail: PartitionTail(after: after),
        end: $0.start >= $0.partition.high ? .complete : nil)
    }
    // A queue for each time: nothing that was fetched for another range can come out of it.
    guard let topic = topic(name), let queue = rd_kafka_queue_new(client) else { return readings }
    defer { rd_kafka_queue_destroy(queue) }
    var started: [Int32] = []
    defer { for number in started { rd_kafka_consume_stop(topic, number) } }
    for (index, reading) in readings.enumerated() where reading.end == nil {
      if rd_kafka_consume_start_queue(topic, reading.partition.number, reading.start, queue) == 0 {
        started.append(reading.partition.number)
      } else {
        readings[index].end = .failed(rd_kafka_last_error())
      }
    }
    var kept = 0
    var open = started.count
    while open > 0, MonotonicTime.now() < deadline {
      turn()
      takeEvents()
      for _ in 0..<1000 {
        guard open > 0, let message = rd_kafka_consume_queue(queue, 20) else { break }
        defer { rd_kafka_message_destroy(message) }
        guard let index = readings.firstIndex(where: { $0.partition.number == message.pointee.partition }),
          readings[index].end == nil
        else { continue }
        Self.take(message, &readings[index], kept: &kept, observe)
        if kept > room { readings[index].end = .outOfRoom }
        if readings[index].end != nil { open -= 1 }
      }
    }
    return readings
  }

  private static func take(
    _ message: UnsafeMutablePointer<rd_kafka_message_t>, _ reading: inout Reading, kept: inout Int,
    _ observe: (Record, EventSequence, _ timestamp: Int64) -> Void
  ) {
    switch message.pointee.err {
    case RD_KAFKA_RESP_ERR_NO_ERROR:
      if message.pointee.offset < reading.partition.high {
        reading.messages += 1
        TailMessage.withRecord(message) { record in
          guard let (event, key) = TailMessage.read(record) else { return }
          let before = reading.tail.count
          reading.tail.add(event, key: key)
          observe(record, event.sequence, rd_kafka_message_timestamp(message, nil))
          kept += reading.tail.count - before
        }
      }
      if message.pointee.offset >= reading.partition.high - 1 { reading.end = .complete }
    case RD_KAFKA_RESP_ERR__PARTITION_EOF:
      let end = message.pointee.offset
      reading.end = end < reading.partition.high ? .openTransaction(at: end) : .complete
    default:
      reading.end = .failed(message.pointee.err)
    }
  }

  private func takeEvents() {
    guard let main = rd_kafka_queue_get_main(client) else { return }
    defer { rd_kafka_queue_destroy(main) }
    while let event = rd_kafka_queue_poll(main, 0) {
      if rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR,
        rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN
      {
        // SAFETY: the text lives until the event is destroyed, and is copied here.
        trouble = rd_kafka_event_error_string(event).map { String(cString: $0) } ?? trouble
      }
      rd_kafka_event_destroy(event)
    }
  }
}
