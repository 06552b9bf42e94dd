// Owns: the way of a delivery from librdkafka to the loop, and which record broke a producer.
// Must not know: how records are sent, topics beyond their counts.
import CRdkafka
public import RelayCore
import Synchronization

extension KafkaSink {
  public func drain(_ settle: (Delivery) -> Void) throws(RelayError) {
    handle.clearDescriptor()
    while let event = handle.nextEvent() { take(event, settle) }
    if isFatal { awaitCulprit(settle) }
    if !consequences.isEmpty { settleConsequences(settle) }
    arguments.setTime()
    let now = MonotonicTime.now()
    window.observe(delivered: delivered, now: now)
    metrics.inFlightBytes.store(inFlightBytes, ordering: .relaxed)
    health.note(connected: handle.brokers.count, now: now)
    observeStall(now)
    health.publish()
    if now >= publishTime {
      publishTime = now.advanced(milliseconds: 1000)
      publishTopics()
    }
    if isFatal, let (code, reason) = handle.fatalError {
      throw KafkaFailure.fatal(code, reason: reason, broker: broker)
    }
    if let refusal = health.refusal(now: now) { throw refusal }
  }

  private func observeStall(_ now: MonotonicTime) {
    if delivered != stall.delivered || inFlight == 0 { stall = (delivered, now) }
    health.note(unacknowledged: inFlight, since: stall.since, now: now)
    guard health.isStalled != hasToldStall else { return }
    hasToldStall = health.isStalled
    if hasToldStall {
      log.warning(
        "Kafka does not acknowledge records", ("events", String(inFlight)),
        ("seconds", String(KafkaHealth.acknowledgementTime / 1000)),
        ("brokers_connected", String(health.brokersUp)))
    } else {
      log.notice("Kafka acknowledges again, or is no longer connected")
    }
  }

  /// Handles the event and destroys it, or keeps it for `settleConsequences`.
  private func take(_ event: OpaquePointer, _ settle: (Delivery) -> Void) {
    let known = consequences.count
    switch rd_kafka_event_type(event) {
    case RD_KAFKA_EVENT_DR:
      // librdkafka tells of a refused batch as a whole.
      let count = rd_kafka_event_message_count(event)
      while let message = rd_kafka_event_message_next(event) { self.settle(message, ofBatch: count, settle) }
    case RD_KAFKA_EVENT_ERROR:
      takeError(event)
    case RD_KAFKA_EVENT_LOG:
      if let line = handle.logLine(event) {
        health.note(logLine: line.text)
        // A refusal is told once for each attempt, with its remedy, by whoever takes `sinkDenied`.
        let level = KafkaHealth.isRefusal(logLine: line.text) ? min(line.level, .debug) : line.level
        log.write(level, "Kafka client: \(line.facility)", [("text", line.text)])
      }
    default:
      break
    }
    if consequences.count == known { rd_kafka_event_destroy(event) } else { keptEvents.append(event) }
  }

  @inline(__always)
  private func settle(
    _ message: UnsafePointer<rd_kafka_message_t>, ofBatch count: Int, _ settle: (Delivery) -> Void
  ) {
    // SAFETY: the message lives until its event is destroyed, after this call.
    let (tag, bytes) = RecordCost.unpack(UInt64(UInt(bitPattern: message.pointee._private)), lastTag: lastTag)
    inFlight -= 1
    inFlightBytes -= bytes
    guard message.pointee.err == RD_KAFKA_RESP_ERR_NO_ERROR else {
      settleFailure(message, tag: tag, ofBatch: count, settle)
      return
    }
    delivered &+= 1
    TopicTable.countDelivery(to: message.pointee.rkt)
    health.noteAnswer()
    settle(Delivery(tag: tag, failure: nil))
  }

  private func settleFailure(
    _ message: UnsafePointer<rd_kafka_message_t>, tag: UInt64, ofBatch count: Int,
    _ settle: (Delivery) -> Void
  ) {
    let failure = KafkaFailure(message.pointee.err)
    switch failure {
    case .size where count > 1:
      sawRejection = true
      refusedBatch = refusedBatch ?? RefusedBatch(code: message.pointee.err, records: count)
      refusedBatch?.add(message)
      consequences.append((message, tag))
    case .topicMissing, .unreachable, .passing, .producer:
      consequences.append((message, tag))
    default:
      sawRejection = true
      tell(message, tag: tag, settle, mayBeNeighbour: failure.kind == .recordRejected && count > 1)
    }
  }

  private func tell(
    _ message: UnsafePointer<rd_kafka_message_t>, tag: UInt64, _ settle: (Delivery) -> Void,
    mayBeNeighbour: Bool = false, because cause: RelayError? = nil
  ) {
    UndeliveredRecord.read(message) { record, topic in
      let error =
        cause
        ?? KafkaFailure.record(
          message.pointee.err, topic: topic, partition: message.pointee.partition, sizes: record.sizes,
          broker: broker)
      settle(
        Delivery(
          tag: tag, failure: DeliveryFailure(error: error, mayBeNeighbour: mayBeNeighbour, record: record)))
    }
  }

  /// A fatal error takes many records down that nothing is wrong with, and their reports may come before
  /// that of the one which caused it. They are told last.
  private func settleConsequences(_ settle: (Delivery) -> Void) {
    let cause = refusedBatch.map { reduceBatches($0) }
    // SAFETY: a message lives until its event, which was kept, is destroyed below.
    for (message, tag) in consequences { tell(message, tag: tag, settle, because: cause) }
    consequences.removeAll()
    for event in keptEvents { rd_kafka_event_destroy(event) }
    keptEvents.removeAll()
    refusedBatch = nil
  }

  /// What comes of a batch that was too large: the next producer has smaller ones.
  private func reduceBatches(_ batch: RefusedBatch) -> RelayError {
    let topicLimit = handle.configuration(
      of: RD_KAFKA_RESOURCE_TOPIC, batch.topic, milliseconds: Self.patience)?["max.message.bytes"].flatMap {
        Int($0)
      }
    let limit = batchLimit.shrink(handle.number("batch.size"), batch: batch.bytes, topicLimit: topicLimit)
    return KafkaFailure.batchTooLarge(
      batch.code, topic: batch.topic, topicLimit: topicLimit, records: batch.records, limit: limit,
      broker: broker)
  }

  private func takeError(_ event: OpaquePointer) {
    let code = rd_kafka_event_error(event)
    if code == RD_KAFKA_RESP_ERR__FATAL || rd_kafka_event_error_is_fatal(event) != 0 {
      isFatal = true
      return
    }
    // SAFETY: the text lives until the event is destroyed, and is copied here.
    let reason = rd_kafka_event_error_string(event).map { String(cString: $0) } ?? KafkaFailure.text(code)
    health.note(code, reason: reason, now: .now())
  }

  /// The fatal error is told before the delivery of the record that caused it. Without that delivery the
  /// next producer would fail on the same record, again and again.
  private func awaitCulprit(_ settle: (Delivery) -> Void) {
    guard handle.fatalError?.code == RD_KAFKA_RESP_ERR__GAPLESS_GUARANTEE else { return }
    let deadline = MonotonicTime.now().advanced(milliseconds: Self.fatalPatience)
    while !sawRejection, inFlight > 0, MonotonicTime.now() < deadline {
      if let event = handle.nextEvent(milliseconds: 10) { take(event, settle) }
    }
    // The rest of the same batch comes in the same event, or in those that already wait.
    while let event = handle.nextEvent() { take(event, settle) }
  }
}
