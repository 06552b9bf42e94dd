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

  private(set) var handle: ProducerHandle
  private let settings: KafkaSettings
  /// Topics of a producer until it is replaced, though not before `renewTime`: to meet all topics again takes a while.
  let topicLimit: Int
  var renewTime = MonotonicTime(nanoseconds: 0)
  private static let renewInterval = 600_000
  let metrics: RelayMetrics
  let log: Log
  let missingTopic: KafkaSettings.MissingTopic
  private let messageLimit: Int
  let batchLimit: BatchLimit
  /// For commands in a remedy.
  let broker: String
  /// What may be queued and in flight, headers and bookkeeping included. librdkafka's own limit counts payloads.
  private let byteBudget: Int
  var topics: TopicTable
  var survey = TopicSurvey()
  var window: InFlightWindow
  /// Microseconds that the last `flush` was too short.
  private var unslept: UInt32 = 0
  var health: KafkaHealth
  let arguments: ProduceArguments
  /// False where the operator has set how long to linger, or wants nothing adaptive.
  private let flushesEarly: Bool
  /// Counts of the producers before this one.
  private var earlierTopics: [String: UInt64]
  private var publishedTopics: UInt64 = 0
  var publishTime = MonotonicTime(nanoseconds: 0)
  var delivered: UInt64 = 0
  var inFlight = 0
  var inFlightBytes = 0
  var lastTag: UInt64 = 0
  /// Seen in the deliveries since the producer became fatal, or just before.
  var sawRejection = false
  var isFatal = false
  /// Undelivered without a fault of their own, and the events that they live in. Empty between drains.
  var consequences: [(message: UnsafePointer<rd_kafka_message_t>, tag: UInt64)] = []
  var keptEvents: [OpaquePointer] = []
  /// A batch of several records that a topic found too large.
  var refusedBatch: RefusedBatch?
  /// Since when nothing was delivered although records are in flight.
  var stall = (delivered: UInt64(0), since: MonotonicTime.now())
  var hasToldStall = false
  private var isAbandoned = false

  public var descriptor: Int32 { handle.descriptor }
  /// For tests that provoke what a broker cannot.
  var client: OpaquePointer { handle.client }

  /// Makes the producer, and gives the first broker half a second to answer. Kafka need not be there.
  /// Reads the files of secrets.
  /// - Throws: `configurationInvalid` with all faults of the properties; `sinkDenied` where a file with a
  ///   secret, certificate or key cannot be used.
  /// - Parameter batchLimit: what the producers before this one have learnt.
  public convenience init(
    settings: KafkaSettings, metrics: RelayMetrics, log: Log, batchLimit: BatchLimit = BatchLimit()
  ) throws(RelayError) {
    try self.init(
      settings: settings, metrics: metrics, log: log, batchLimit: batchLimit, topicLimit: 10_000)
  }

  init(
    settings: KafkaSettings, metrics: RelayMetrics, log: Log, batchLimit: BatchLimit, topicLimit: Int
  ) throws(RelayError) {
    let faults = KafkaProperties.faults(settings)
    if !faults.isEmpty {
      throw RelayError(
        faults.allSatisfy(\.isFile) ? .sinkDenied : .configurationInvalid,
        faults.map { "kafka.properties: \($0.property) \($0.reason)" }.joined(separator: "; "))
    }
    handle = try Self.makeHandle(settings, batchLimit)
    self.settings = settings
    self.topicLimit = topicLimit
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
    flushesEarly = settings.isAdaptive && KafkaProperties.text(of: "queue.buffering.max.ms", settings) == nil
    earlierTopics = metrics.topics
    if let cluster = rd_kafka_clusterid(handle.client, Self.patience) {
      rd_kafka_mem_free(handle.client, cluster)
      health.noteAnswer()
    }
    health.publish()
  }

  private static func makeHandle(
    _ settings: KafkaSettings, _ batchLimit: BatchLimit
  ) throws(RelayError) -> ProducerHandle {
    try ProducerHandle(settings, overriding: batchLimit.bytes.map { [("batch.size", String($0))] } ?? [])
  }

  /// Replaces the producer by one that has met no topic. Nothing may be in flight.
  func renew() throws(RelayError) {
    let next = try Self.makeHandle(settings, batchLimit)
    publishTopics()
    earlierTopics = metrics.topics
    topics.destroy()
    handle = next
    topics = TopicTable(client: handle.client)
    renewTime = MonotonicTime.now().advanced(milliseconds: Self.renewInterval)
    metrics.producerRebuilds.wrappingAdd(1, ordering: .relaxed)
    log.info("the producer is replaced, as it has met \(topicLimit) topics")
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
    guard topics.exists(index) else { return .notAdmitted }
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
      topics.hold(index, reason: deniedText(topics.name(index)), milliseconds: 100)
      return .notAdmitted
    case .topicMissing, .passing:
      topics.hold(index, reason: Self.missingText(topics.name(index)), milliseconds: 100)
      return .notAdmitted
    case .size:
      throw KafkaFailure.tooLarge(topic: topics.name(index), sizes: record.sizes, limit: messageLimit)
    default:
      throw KafkaFailure.record(
        code, topic: topics.name(index), partition: nil, sizes: record.sizes, broker: broker)
    }
  }

  /// While `rd_kafka_flush` waits, librdkafka does not linger; it waits for its time in full, because deliveries
  /// count as outstanding until `drain` has taken them.
  public func flush(sleeping microseconds: UInt32) {
    guard flushesEarly, inFlight > 0 else {
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

  func publishTopics() {
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
