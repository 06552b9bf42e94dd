// Owns: the way of a record into librdkafka and of its delivery back, and what is held or refused on it.
// Must not know: where records come from; it carries an opaque tag.
import CRdkafka
import Glibc
public import RelayCore
import Synchronization

/// The sink that produces to Kafka: idempotent, acknowledged by all in-sync replicas, gapless.
/// Confined to the thread that made it. A sink that threw `sinkFailed` or `sinkDenied` is rebuilt.
public final class KafkaSink: RecordSink {
  /// How long a first sight of a topic, or the first connection, may block, in milliseconds.
  static let patience: Int32 = 500
  /// The same after so many attempts: a broker that takes longer would else never be heard.
  static func patience(attempts: Int) -> Int32 { patience << Int32(min(2, max(0, attempts))) }
  /// How long a fatal producer is given to name the record that broke it.
  static let fatalPatience = 500
  /// Topics beyond this are summed as `other` in the metrics.
  static let countedTopics = 200

  let handle: ProducerHandle
  private let metrics: RelayMetrics
  let log: Log
  let missingTopic: KafkaSettings.MissingTopic
  private let messageLimit: Int
  private let batchLimit: BatchLimit
  /// For commands in a remedy.
  let broker: String
  /// What may be queued and in flight, headers and bookkeeping included. librdkafka's own limit counts payloads.
  private let byteBudget: Int
  var topics: TopicTable
  var survey = TopicSurvey()
  var window: InFlightWindow
  /// Microseconds that the last `hasten` was too short.
  private var unslept: UInt32 = 0
  var health: KafkaHealth
  private let arguments: ProduceArguments
  /// False where the operator has set how long to linger, or wants nothing adaptive.
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
  /// A batch of several records that a topic found too large.
  private var refusedBatch: RefusedBatch?
  /// Since when nothing was delivered although records are in flight.
  private var stall = (delivered: UInt64(0), since: MonotonicTime.now())
  private var hasToldStall = false
  private var isAbandoned = false

  public internal(set) var retryTime = MonotonicTime(nanoseconds: 0)

  public var descriptor: Int32 { handle.descriptor }
  /// For tests that provoke what a broker cannot.
  var client: OpaquePointer { handle.client }

  /// Makes the producer, and gives the first broker half a second to answer. Kafka need not be there.
  /// Reads the files of secrets.
  /// - Throws: `configurationInvalid` with all faults of the properties; `sinkDenied` where a file with a
  ///   secret, certificate or key cannot be used.
  /// - Parameter batchLimit: what the producers before this one have learnt.
  public init(
    settings: KafkaSettings, metrics: RelayMetrics, log: Log, batchLimit: BatchLimit = BatchLimit()
  ) throws(RelayError) {
    let faults = KafkaProperties.faults(settings)
    if !faults.isEmpty {
      throw RelayError(
        faults.allSatisfy(\.isFile) ? .sinkDenied : .configurationInvalid,
        faults.map { "kafka.properties: \($0.property) \($0.reason)" }.joined(separator: "; "))
    }
    handle = try ProducerHandle(
      settings, overriding: batchLimit.bytes.map { [("batch.size", String($0))] } ?? [])
    self.batchLimit = batchLimit
    self.metrics = metrics
    self.log = log
    missingTopic = settings.missingTopic
    broker = settings.commandBroker
    messageLimit = handle.number("message.max.bytes")
    byteBudget = 1024 * handle.number("queue.buffering.max.kbytes")
    window = InFlightWindow(highest: handle.queueLimit, isAdaptive: settings.isAdaptive)
    topics = TopicTable(client: handle.client)
    health = KafkaHealth(metrics: metrics, mechanism: KafkaProperties.mechanism(settings) ?? "")
    arguments = ProduceArguments()
    isHastened = settings.isAdaptive && KafkaProperties.text(of: "queue.buffering.max.ms", settings) == nil
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
    // librdkafka waits indefinitely for topics that are still held.
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
    // With a fatal error, the deliveries that wait tell which record it was; `drain` throws after them.
    let isFull = [
      RD_KAFKA_RESP_ERR__QUEUE_FULL, RD_KAFKA_RESP_ERR__FATAL, RD_KAFKA_RESP_ERR__GAPLESS_GUARANTEE,
    ].contains(code)
    if isFull { return .full }
    switch KafkaFailure(code) {
    case .right:
      hold(index, reason: deniedText(topics.name(index)), milliseconds: 100)
      return .held
    case .topicMissing, .passing:
      hold(index, reason: Self.missingText(topics.name(index)), milliseconds: 100)
      return .held
    case .size:
      throw KafkaFailure.tooLarge(topic: topics.name(index), sizes: record.sizes, limit: messageLimit)
    default:
      throw KafkaFailure.record(
        code, topic: topics.name(index), partition: nil, sizes: record.sizes, broker: broker)
    }
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
      Self.count(entry.delivered, of: topics.name(index), in: &counts)
    }
    metrics.topics = counts
  }

  /// Rows may name any number of topics, and each name costs whoever scrapes it.
  static func count(_ delivered: UInt64, of topic: String, in counts: inout [String: UInt64]) {
    let isNamed = counts[topic] != nil || counts.count < countedTopics
    counts[isNamed ? topic : "other", default: 0] += delivered
  }
}
