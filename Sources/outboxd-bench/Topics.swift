// Owns: topics: made and deleted, and how many messages they hold.
// Must not know: who writes them.
import CRdkafka
import RelayTesting

/// A client for administration. The embedded broker makes topics by itself and cannot delete them.
final class Topics {
  private let client: OpaquePointer
  private let queue: OpaquePointer
  private let isManaged: Bool
  private static let patience: Int32 = 60_000

  init(bootstrap: String, isManaged: Bool) throws {
    self.isManaged = isManaged
    let configuration = rd_kafka_conf_new()
    rd_kafka_conf_set(configuration, "bootstrap.servers", bootstrap, nil, 0)
    // It outlives the broker, of whose end it would tell.
    rd_kafka_conf_set(configuration, "log_level", "0", nil, 0)
    guard let client = rd_kafka_new(RD_KAFKA_PRODUCER, configuration, nil, 0) else {
      throw HarnessError("no Kafka client for \(bootstrap)")
    }
    self.client = client
    queue = rd_kafka_queue_new(client)
  }

  deinit {
    rd_kafka_queue_destroy(queue)
    rd_kafka_destroy(client)
  }

  func create(_ names: [String], partitions: Int32 = 4) throws {
    guard isManaged else { return }
    var topics = names.map { rd_kafka_NewTopic_new($0, partitions, 1, nil, 0) }
    defer { topics.forEach { rd_kafka_NewTopic_destroy($0) } }
    rd_kafka_CreateTopics(client, &topics, topics.count, nil, queue)
    try awaitResult("created") { event in
      var count = 0
      let topics = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count)
      return Self.firstError(topics, count)
    }
  }

  /// Gives the disk back.
  func delete(_ names: [String]) throws {
    guard isManaged else { return }
    var topics = names.map { rd_kafka_DeleteTopic_new($0) }
    defer { topics.forEach { rd_kafka_DeleteTopic_destroy($0) } }
    rd_kafka_DeleteTopics(client, &topics, topics.count, nil, queue)
    try awaitResult("deleted") { event in
      var count = 0
      let topics = rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(event), &count)
      return Self.firstError(topics, count)
    }
  }

  private func awaitResult(_ what: String, _ failure: (OpaquePointer) -> String?) throws {
    guard let event = rd_kafka_queue_poll(queue, Self.patience) else {
      throw HarnessError("no answer from Kafka: topics not \(what)")
    }
    defer { rd_kafka_event_destroy(event) }
    if rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR {
      throw HarnessError("topics not \(what): \(String(cString: rd_kafka_event_error_string(event)))")
    }
    if let reason = failure(event) { throw HarnessError("topics not \(what): \(reason)") }
  }

  private static func firstError(
    _ topics: UnsafeMutablePointer<OpaquePointer?>?, _ count: Int
  ) -> String? {
    // SAFETY: librdkafka gives `count` results, which live as long as the event.
    for index in 0..<count where rd_kafka_topic_result_error(topics?[index]) != RD_KAFKA_RESP_ERR_NO_ERROR {
      return rd_kafka_topic_result_error_string(topics?[index]).map { String(cString: $0) } ?? "no reason"
    }
    return nil
  }

  /// Messages that were written to the topics since they were made.
  func count(_ names: [String], partitions: Int32 = 4) throws -> Int {
    // The embedded broker gives every topic four.
    let partitions = isManaged ? partitions : 4
    var total: Int64 = 0
    for name in names {
      for partition in 0..<partitions {
        var low: Int64 = 0
        var high: Int64 = 0
        let code = rd_kafka_query_watermark_offsets(client, name, partition, &low, &high, Self.patience)
        guard code == RD_KAFKA_RESP_ERR_NO_ERROR else {
          throw HarnessError("no offsets of \(name): \(String(cString: rd_kafka_err2str(code)))")
        }
        total += high
      }
    }
    return Int(total)
  }
}
