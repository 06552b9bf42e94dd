// Owns: the way of a record into librdkafka and of its delivery back, and what is held or refused on it.
// Must not know: where records come from; it carries an opaque tag.
import CRdkafka
import Glibc
public import RelayCore
import Synchronization

/// The sink that produces to Kafka: idempotent, acknowledged by all in-sync replicas, gapless.
/// Confined to the thread that made it. A sink that threw `sinkFailed` or `sinkDenied` is made anew.
public final class KafkaSink: RecordSink {
  /// How long a first sight of a topic, or the first connection, may block, in milliseconds.
  static let patience: Int32 = 500
  /// The same after so many attempts: a broker that takes longer would else never be heard.
  static func patience(attempts: Int) -> Int32 { patience << Int32(min(2, max(0, attempts))) }
  /// How long a fatal producer is given to name the record that broke it.
  static let fatalPatience = 500
  /// Topics beyond this are summed as `other` in the metrics.
  static let countedTopics = 200

  private let handle: ProducerHandle
  private let metrics: RelayMetrics
  private let log: Log
  private let missingTopic: KafkaSettings.MissingTopic
  private let messageLimit: Int
  /// For commands in a remedy.
  private let broker: String
  /// What may be queued and in flight, headers and bookkeeping included. librdkafka's own limit counts payloads.
  private let byteBudget: Int
  private var topics: TopicTable
  private var survey = TopicSurvey()
  private var window: InFlightWindow
  /// Microseconds that the last `hasten` was too short.
  private var unslept: UInt32 = 0
  private var health: KafkaHealth
  private let arguments: ProduceArguments
  /// False where the operator has set how long to linger.
  private let isHastened: Bool
  /// Counts of the producers before this one.
  private let earlierTopics: [String: UInt64]
  private var publishedTopics: UInt64 = 0
  private var publishTime = MonotonicTime(nanoseconds: 0)
  private var delivered: UInt64 = 0
  private var inFlight = 0
  private var inFlightBytes = 0
  private var lastTag: UInt64 = 0
  /// Seen in the deliveries since the producer became fatal, or just before.
  private var sawRejection = false
  private var isFatal = false
  /// Undelivered without a fault of their own, and the events that they live in. Empty between drains.
  private var consequences: [(message: UnsafePointer<rd_kafka_message_t>, tag: UInt64)] = []
  private var keptEvents: [OpaquePointer] = []
  private var isAbandoned = false

  public private(set) var retryTime = MonotonicTime(nanoseconds: 0)

  public var descriptor: Int32 { handle.descriptor }
  /// For tests that provoke what a broker cannot.
  var client: OpaquePointer { handle.client }

  /// Makes the producer, and gives the first broker half a second to answer. Kafka need not be there.
  /// Reads the files of secrets.
  /// - Throws: `configurationInvalid` with all faults of the properties; `sinkDenied` where a file with a
  ///   secret, certificate or key cannot be used.
  public init(settings: KafkaSettings, metrics: RelayMetrics, log: Log) throws(RelayError) {
    let faults = KafkaProperties.faults(settings)
    if !faults.isEmpty {
      throw RelayError(
        faults.allSatisfy(\.isFile) ? .sinkDenied : .configurationInvalid,
        faults.map { "kafka.properties: \($0.property) \($0.reason)" }.joined(separator: "; "))
    }
    handle = try ProducerHandle(settings)
    self.metrics = metrics
    self.log = log
    missingTopic = settings.missingTopic
    broker = settings.commandBroker
    messageLimit = handle.number("message.max.bytes")
    byteBudget = 1024 * handle.number("queue.buffering.max.kbytes")
    window = InFlightWindow(highest: handle.queueLimit)
    topics = TopicTable(client: handle.client)
    health = KafkaHealth(metrics: metrics, mechanism: KafkaProperties.mechanism(settings) ?? "")
    arguments = ProduceArguments()
    isHastened = KafkaProperties.text(of: "queue.buffering.max.ms", settings) == nil
    earlierTopics = metrics.topics
    if let cluster = rd_kafka_clusterid(handle.client, Self.patience) {
      rd_kafka_mem_free(handle.client, cluster)
      health.noteAnswer()
    }
    health.publish()
  }

  deinit {
    if !isAbandoned { handle.purge(milliseconds: 100) }
    publishTopics()
    metrics.inFlightBytes.store(0, ordering: .relaxed)
    health.withdraw()
    // librdkafka waits for ever for topics that are still held.
    topics.destroy()
  }

  // MARK: Sending

  public func send(_ record: Record, tag: UInt64) throws(RelayError) -> SendOutcome {
    let index = try topics.index(of: record.topic)
    if !topics.exists(index), try !admit(index) { return .held }
    if window.holdsBack(inFlight) { return .full }
    // Built before it is known whether there is room: to go through the headers once more would cost each record, and
    // there is no room only once a turn.
    let (headers, headerBytes) = Self.headers(of: record)
    let cost = RecordCost(record, headerBytes: headerBytes)
    if inFlight > 0, inFlightBytes + cost.bytes > byteBudget {
      if let headers { rd_kafka_headers_destroy(headers) }
      return .full
    }
    let error = arguments.produce(
      client: handle.client, topic: topics.topic(index), record: record, headers: headers,
      opaque: cost.packed(with: tag))
    guard let error else {
      inFlight += 1
      inFlightBytes += cost.bytes
      lastTag = tag
      return .accepted
    }
    let code = rd_kafka_error_code(error)
    rd_kafka_error_destroy(error)
    // Headers are librdkafka's only once the record is.
    if let headers { rd_kafka_headers_destroy(headers) }
    return try refused(code, record: record, index: index)
  }

  /// The record's headers as librdkafka's list, ours until a produce call succeeds, and the bytes of their names and
  /// values.
  @inline(__always)
  private static func headers(of record: Record) -> (list: OpaquePointer?, bytes: Int) {
    guard !record.headers.isEmpty else { return (nil, 0) }
    let headers = rd_kafka_headers_new(record.headers.count)
    var bytes = 0
    for header in record.headers {
      bytes &+= header.name.count &+ header.value.count
      // SAFETY: name and value are lent for this call, and librdkafka copies both. An empty value must
      // not be a null one.
      rd_kafka_header_add(
        headers, header.name.baseAddress?.assumingMemoryBound(to: CChar.self), header.name.count,
        header.value.baseAddress ?? ProduceArguments.emptyBytes, header.value.count)
    }
    return (headers, bytes)
  }

  private func refused(
    _ code: rd_kafka_resp_err_t, record: Record, index: Int
  ) throws(RelayError) -> SendOutcome {
    switch code {
    case RD_KAFKA_RESP_ERR__QUEUE_FULL:
      return .full
    case RD_KAFKA_RESP_ERR__FATAL, RD_KAFKA_RESP_ERR__GAPLESS_GUARANTEE:
      // The deliveries that wait tell which record it was; `drain` throws after them.
      return .full
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
      RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
      let reason =
        code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED
        ? deniedText(topics.name(index)) : Self.missingText(topics.name(index))
      hold(index, reason: reason, milliseconds: 100)
      return .held
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
      throw KafkaFailure.tooLarge(topic: topics.name(index), sizes: record.sizes, limit: messageLimit)
    default:
      throw KafkaFailure.record(
        code, topic: topics.name(index), partition: nil, sizes: record.sizes, broker: broker)
    }
  }

  // MARK: Topics

  /// True when the topic exists. Otherwise it is held.
  private func admit(_ index: Int) throws(RelayError) -> Bool {
    let now = MonotonicTime.now()
    let entry = topics.entries[index]
    guard now >= entry.retryTime else {
      retryTime = entry.retryTime
      return false
    }
    // With all brokers away an answer is not to be expected, and the loop has other things to do.
    let isHopeless = health.brokersUp == 0 && entry.attempts > 0
    let patience = isHopeless ? 50 : Self.patience(attempts: entry.attempts)
    let name = topics.name(index)
    let listed =
      entry.attempts == 0
      ? survey.partitions(of: name, client: handle.client, milliseconds: patience, now: now) : nil
    switch listed.map(Result.success) ?? partitions(of: entry.topic, milliseconds: patience) {
    case .success(let partitions):
      if health.topicHold != nil {
        log.notice("topic is there, records go on", ("topic", name))
        health.topicHold = nil
      }
      topics.markExisting(index, partitions: partitions)
      window.serve(partitions: topics.partitions)
      health.noteAnswer()
      health.publish()
      return true
    case .failure(let failure):
      try hold(index, failure.code, attempts: entry.attempts)
      return false
    }
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
    switch code {
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
      health.noteAnswer()
      guard missingTopic == .hold else {
        throw RelayError(
          .topicMissing, "topic \"\(name)\" does not exist", code: KafkaFailure.name(code),
          remedy: "Create it: \(KafkaFailure.creation(of: name, broker: broker)); or set kafka.missing_topic "
            + "to hold.")
      }
      hold(index, reason: Self.missingText(name), milliseconds: delay)
    case RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
      health.noteAnswer()
      hold(index, reason: "topic \"\(name)\" has no leader yet", milliseconds: delay)
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
      health.noteAnswer()
      hold(index, reason: deniedText(name), milliseconds: 1000)
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
      throw RelayError(
        .recordRejected, "Kafka refuses the topic name \"\(name)\": \(KafkaFailure.text(code))",
        code: KafkaFailure.name(code),
        remedy: "A topic name is 1 to 249 of the characters A-Z a-z 0-9 . _ -")
    default:
      let isAway = health.brokersUp == 0
      hold(
        index,
        reason: isAway
          ? KafkaHealth.awayText(health.reason)
          : "topic \"\(name)\" could not be looked up: \(KafkaFailure.text(code))",
        milliseconds: min(5000, delay * 5))
    }
  }

  private func hold(_ index: Int, reason: String, milliseconds: Int) {
    retryTime = MonotonicTime.now().advanced(milliseconds: milliseconds)
    topics.markUnknown(index, retryTime: retryTime)
    health.topicHold = reason
    health.publish()
    // About a second of waiting is what an automatic creation may take.
    guard topics.entries[index].attempts == 4 else { return }
    let message = health.brokersUp == 0 ? "records wait for Kafka" : "records wait for a topic"
    log.warning(message, ("topic", topics.name(index)), ("reason", reason))
  }

  private static func missingText(_ name: String) -> String {
    "topic \"\(name)\" does not exist; records for it wait until it is created"
  }

  private func deniedText(_ name: String) -> String {
    "topic \"\(name)\" may not be written by outboxd. \(KafkaFailure.writeGrant(name, broker: broker))"
  }

  // MARK: Deliveries

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

  /// Handles the event and destroys it, or keeps it for `settleConsequences`.
  private func take(_ event: OpaquePointer, _ settle: (Delivery) -> Void) {
    let known = consequences.count
    switch rd_kafka_event_type(event) {
    case RD_KAFKA_EVENT_DR:
      while let message = rd_kafka_event_message_next(event) { self.settle(message, settle) }
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
  private func settle(_ message: UnsafePointer<rd_kafka_message_t>, _ settle: (Delivery) -> Void) {
    // SAFETY: the message lives until its event is destroyed, after this call.
    let (tag, bytes) = RecordCost.unpack(UInt64(UInt(bitPattern: message.pointee._private)), lastTag: lastTag)
    inFlight -= 1
    inFlightBytes -= bytes
    guard message.pointee.err == RD_KAFKA_RESP_ERR_NO_ERROR else {
      settleFailure(message, tag: tag, settle)
      return
    }
    delivered &+= 1
    TopicTable.countDelivery(to: message.pointee.rkt)
    health.noteAnswer()
    settle(Delivery(tag: tag, failure: nil))
  }

  private func settleFailure(
    _ message: UnsafePointer<rd_kafka_message_t>, tag: UInt64, _ settle: (Delivery) -> Void
  ) {
    if KafkaFailure(message.pointee.err) == .producerFailed {
      consequences.append((message, tag))
      return
    }
    sawRejection = true
    tell(message, tag: tag, settle)
  }

  private func tell(
    _ message: UnsafePointer<rd_kafka_message_t>, tag: UInt64, _ settle: (Delivery) -> Void
  ) {
    UndeliveredRecord.read(message) { record, topic in
      let error = KafkaFailure.record(
        message.pointee.err, topic: topic, partition: message.pointee.partition, sizes: record.sizes,
        broker: broker)
      let failure = DeliveryFailure(
        error: error, mayBeNeighbour: error.kind == .recordRejected, record: record)
      settle(Delivery(tag: tag, failure: failure))
    }
  }

  /// A fatal error takes many records down that nothing is wrong with, and their reports may come before
  /// that of the one which caused it. They are told last.
  private func settleConsequences(_ settle: (Delivery) -> Void) {
    // SAFETY: a message lives until its event, which was kept, is destroyed below.
    for (message, tag) in consequences { tell(message, tag: tag, settle) }
    consequences.removeAll()
    for event in keptEvents { rd_kafka_event_destroy(event) }
    keptEvents.removeAll()
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
  /// next producer would fail on the same record, for ever.
  private func awaitCulprit(_ settle: (Delivery) -> Void) {
    guard handle.fatalError?.code == RD_KAFKA_RESP_ERR__GAPLESS_GUARANTEE else { return }
    let deadline = MonotonicTime.now().advanced(milliseconds: Self.fatalPatience)
    while !sawRejection, inFlight > 0, MonotonicTime.now() < deadline {
      if let event = handle.nextEvent(milliseconds: 10) { take(event, settle) }
    }
    // The rest of the same batch comes in the same event, or in those that already wait.
    while let event = handle.nextEvent() { take(event, settle) }
  }

  /// While `rd_kafka_flush` waits, librdkafka does not linger; it waits for its time in full, because deliveries
  /// count as outstanding until `drain` has taken them.
  public func hasten(sleeping microseconds: UInt32) {
    guard isHastened, inFlight > 0 else {
      usleep(microseconds)
      return
    }
    // It takes whole milliseconds. What is left of one comes with the next: a sleep of its own would cost as much as
    // this one.
    unslept += microseconds
    rd_kafka_flush(handle.client, Int32(unslept / 1_000))
    unslept %= 1_000
  }

  public func abandon() {
    guard !isAbandoned else { return }
    isAbandoned = true
    handle.purge(milliseconds: 200)
    inFlight = 0
    inFlightBytes = 0
    metrics.inFlightBytes.store(0, ordering: .relaxed)
  }

  private func publishTopics() {
    guard delivered != publishedTopics else { return }
    publishedTopics = delivered
    var counts = earlierTopics
    for (index, entry) in topics.entries.enumerated() where entry.delivered > 0 {
      let name = topics.name(index)
      let isNamed = counts[name] != nil || counts.count < Self.countedTopics
      counts[isNamed ? name : "other", default: 0] += entry.delivered
    }
    metrics.topics = counts
  }
}
