// Owns: whether a topic takes records: the gate of the sink.
// Must not know: records, deliveries.
import CRdkafka
public import RelayCore

extension KafkaSink {
  /// Passes events of topics that exist. Blocks for half a second at most, and only for a topic that is seen for the first
  /// time, or is still missing.
  /// Diverts those whose topic's name Kafka does not take.
  /// - Throws: `topicMissing` where a missing topic is refused.
  public func answer(_ event: GateEvent) throws(RelayError) -> GateAnswer {
    do throws(RelayError) {
      guard let index = topics.find(event.record.topic) else { return try meet(event.record.topic) }
      return topics.exists(index) ? .pass : try examine(index)
    } catch  where error.kind == .recordRejected {
      return .divert(error)
    }
  }

  /// A topic that is new. Rows may name any number of them, and the producer holds each until its own end: so after so
  /// many it is replaced, once it has nothing in flight.
  private func meet(_ topic: LentBytes) throws(RelayError) -> GateAnswer {
    if topics.entries.count >= topicLimit, MonotonicTime.now() >= renewTime {
      guard inFlight == 0 else {
        var wait = GateWait(
          for: "acknowledgements",
          "the producer has met \(topics.entries.count) topics, and is replaced once nothing is in flight",
          outstanding: 0, patience: 1_000)
        wait.flushes = true
        return .wait(wait)
      }
      try renew()
    }
    return try examine(topics.index(of: topic))
  }

  private func examine(_ index: Int) throws(RelayError) -> GateAnswer {
    let now = MonotonicTime.now()
    let entry = topics.entries[index]
    guard now >= entry.retryTime else { return wait(index) }
    // With all brokers away an answer is not to be expected, and the loop has other things to do.
    let isHopeless = health.brokersUp == 0 && entry.attempts > 0
    let patience = isHopeless ? 50 : Self.patience(attempts: entry.attempts)
    let name = topics.name(index)
    let listed =
      entry.attempts == 0
      ? survey.partitions(of: name, client: handle.client, milliseconds: patience, now: now) : nil
    switch listed.map(Result.success) ?? partitions(of: entry.topic, milliseconds: patience) {
    case .success(let partitions):
      if entry.attempts > 0 { log.notice("topic found; resuming", ("topic", name)) }
      topics.markExisting(index, partitions: partitions)
      window.serve(partitions: topics.partitions)
      health.noteAnswer()
      health.publish()
      return .pass
    case .failure(let failure):
      try hold(index, failure.code, attempts: entry.attempts)
      return wait(index)
    }
  }

  /// Records of a topic that is held wait until it is asked for again.
  private func wait(_ index: Int) -> GateAnswer {
    let isAway = health.brokersUp == 0
    let reason = isAway ? KafkaHealth.awayText(health.reason) : topics.reasons[index] ?? ""
    return .wait(
      GateWait(for: isAway ? "Kafka" : "a topic", reason, until: topics.entries[index].retryTime))
  }

  private struct Unavailable: Error { var code: rd_kafka_resp_err_t }

  private func partitions(of topic: OpaquePointer, milliseconds: Int32) -> Result<Int, Unavailable> {
    var metadata: UnsafePointer<rd_kafka_metadata>?
    let code = rd_kafka_metadata(handle.client, 0, topic, &metadata, milliseconds)
    guard code == RD_KAFKA_RESP_ERR_NO_ERROR, let metadata else { return .failure(Unavailable(code: code)) }
    defer { rd_kafka_metadata_destroy(metadata) }
    // SAFETY: librdkafka returns `topic_cnt` topics, alive until the metadata is destroyed.
    guard metadata.pointee.topic_cnt > 0, let first = metadata.pointee.topics else {
      return .failure(Unavailable(code: RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART))
    }
    if first.pointee.err != RD_KAFKA_RESP_ERR_NO_ERROR {
      return .failure(Unavailable(code: first.pointee.err))
    }
    guard first.pointee.partition_cnt > 0 else {
      return .failure(Unavailable(code: RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE))
    }
    return .success(Int(first.pointee.partition_cnt))
  }

  /// Decides what follows from a topic's answer.
  private func hold(_ index: Int, _ code: rd_kafka_resp_err_t, attempts: Int) throws(RelayError) {
    let name = topics.name(index)
    // A topic that is being created takes some tenths of a second; one that is missing, a person.
    let delay = min(1000, 100 << min(attempts, 4))
    let failure = KafkaFailure(code)
    if code.rawValue > 0 { health.noteAnswer() }
    switch failure {
    case .topicMissing:
      guard missingTopic == .hold else {
        throw RelayError(
          .topicMissing, "topic \"\(name)\" does not exist", code: KafkaFailure.name(code),
          remedy: "Create it: \(KafkaFailure.creation(of: name, broker: broker)); or set kafka.missing_topic "
            + "to hold.")
      }
      topics.hold(index, reason: Self.missingText(name), milliseconds: delay)
    case _ where code == RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
      topics.hold(index, reason: "topic \"\(name)\" has no leader yet", milliseconds: delay)
    case .right:
      topics.hold(index, reason: deniedText(name), milliseconds: 1000)
    case .topicName:
      throw RelayError(
        .recordRejected, "Kafka refuses the topic name \"\(name)\": \(KafkaFailure.text(code))",
        code: KafkaFailure.name(code),
        remedy: "A topic name is 1 to 249 of the characters A-Z a-z 0-9 . _ -.")
    case .configuration:
      throw KafkaFailure.record(code, topic: name, partition: nil, sizes: RecordSizes(), broker: broker)
    default:
      topics.hold(
        index, reason: "lookup of topic \"\(name)\" failed: \(KafkaFailure.text(code))",
        milliseconds: min(5000, delay * 5))
    }
  }

  static func missingText(_ name: String) -> String {
    "topic \"\(name)\" does not exist; records for it wait until it is created"
  }

  func deniedText(_ name: String) -> String {
    "topic \"\(name)\": outboxd may not write to it. \(KafkaFailure.writeGrant(name, broker: broker))"
  }
}
