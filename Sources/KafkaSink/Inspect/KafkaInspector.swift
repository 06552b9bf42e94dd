// Owns: what can be told of a Kafka before a relay runs against it, for `check` and `status`.
// Must not know: outboxes. It creates nothing and changes nothing.
import CRdkafka
import Glibc
public import RelayCore

/// What was found in Kafka.
public struct KafkaReport: Sendable {
  public struct Broker: Sendable, Equatable {
    public var id: Int32
    public var host: String
    public var port: Int32
  }

  public struct Topic: Sendable, Equatable {
    public var name: String
    public var partitions: Int
    /// Bytes that the topic takes for a batch. Nil: not told to us.
    public var maxMessageBytes: Int?
    public var cleanupPolicy: String?
  }

  public var libraryVersion: String
  public var features: [String]
  public var clusterID: String?
  public var brokers: [Broker] = []
  /// Those of the topics asked for that exist.
  public var topics: [Topic] = []
  /// Whether brokers create a topic when it is asked for. Nil: not told to us.
  public var createsTopics: Bool?
  /// Their subject is `kafka` or a topic's name.
  public var findings: [Finding] = []
}

/// Asks Kafka. Every call ends within its time.
public enum KafkaInspector {
  /// Whether the records for a topic have a key.
  public enum Key: Comparable, Sendable { case always, notAlways, never }

  /// - Parameters:
  ///   - topics: names to look up.
  ///   - keys: of the topics that records without a key may come to.
  ///   - comparesTails: topics are read after an unclean stop.
  ///   - milliseconds: how long to wait for a first broker; each later request has as long.
  public static func inspect(
    settings: KafkaSettings, topics: [String], keys: [String: Key] = [:], comparesTails: Bool = false,
    milliseconds: Int = 5000
  ) -> KafkaReport {
    var report = KafkaReport(
      libraryVersion: KafkaProperties.libraryVersion, features: KafkaProperties.features)
    report.note(.ok, "librdkafka \(report.libraryVersion) (\(report.features.joined(separator: ", ")))")
    let faults = KafkaProperties.faults(settings)
    for fault in faults { report.note(.error, "kafka.properties: \(fault.property) \(fault.reason)") }
    guard faults.isEmpty else { return report }
    do throws(RelayError) {
      let connection = try Connection(settings, milliseconds: milliseconds)
      try connection.describeCluster(&report)
      connection.describeProducer(&report, broker: settings.commandBroker)
      for name in topics {
        connection.describeTopic(name, key: keys[name] ?? .always, settings: settings, &report)
      }
      let found = report.topics.map(\.name)
      if !found.isEmpty { noteRights(settings, &report) }
      if comparesTails { checkReading(found, settings: settings, &report) }
    } catch {
      report.note(.error, error.message, remedy: error.remedy)
    }
    return report
  }

  /// Says what cannot be found out. A cluster with logins most probably has ACLs.
  private static func noteRights(_ settings: KafkaSettings, _ report: inout KafkaReport) {
    let protocolName = KafkaProperties.text(of: "security.protocol", settings)?.lowercased() ?? ""
    guard !["", "plaintext"].contains(protocolName) else { return }
    report.note(
      .notice,
      "cannot check in advance whether outboxd may write to a topic: librdkafka \(report.libraryVersion) has no "
        + "request for it",
      remedy:
        "See the ACLs, which have to allow Write and Describe, and Read where relay.skip_delivered is on: "
        + "kafka-acls.sh --bootstrap-server \(settings.commandBroker) --list --topic TOPIC")
  }

  /// Reads at the end of each topic, as the relay would.
  private static func checkReading(
    _ topics: [String], settings: KafkaSettings, _ report: inout KafkaReport
  ) {
    guard !topics.isEmpty, let reader = try? TailReader(settings) else { return }
    for name in topics {
      guard let code = reader.refusal(of: name), KafkaFailure(code) == .right else { continue }
      report.note(
        .warning,
        "outboxd may not read it: after an unclean stop, events since the checkpoint would be sent twice",
        subject: name, remedy: KafkaFailure.readGrant(name, broker: settings.commandBroker))
    }
  }
}

extension KafkaReport {
  mutating func note(
    _ level: Finding.Level, _ message: String, subject: String = "kafka", remedy: String? = nil
  ) {
    findings.append(Finding(level: level, subject: subject, message: message, remedy: remedy))
  }
}

/// A client that only asks.
private final class Connection {
  private let handle: ProducerHandle
  private let milliseconds: Int32
  private let messageLimit: Int
  private let batchSize: Int
  private var firstBroker: Int32?
  private var health: KafkaHealth
  private var hasProducerID = false

  init(_ settings: KafkaSettings, milliseconds: Int) throws(RelayError) {
    // Only a line of its debug log tells that librdkafka has a producer id.
    handle = try ProducerHandle(
      settings, overriding: [("debug", "eos"), ("allow.auto.create.topics", "false")])
    self.milliseconds = Int32(clamping: milliseconds)
    messageLimit = handle.number("message.max.bytes")
    batchSize = handle.number("batch.size")
    health = KafkaHealth(metrics: RelayMetrics(), mechanism: KafkaProperties.mechanism(settings) ?? "")
    let deadline = MonotonicTime.now().advanced(milliseconds: milliseconds)
    // The answer comes from librdkafka's cache, so asking often costs nothing.
    while true {
      if let cluster = rd_kafka_clusterid(handle.client, 100) {
        rd_kafka_mem_free(handle.client, cluster)
        return
      }
      take()
      if let refusal = health.refusal(now: .now()) { throw refusal }
      if MonotonicTime.now() >= deadline {
        throw RelayError(
          .sinkFailed, "no Kafka broker answered within \(milliseconds) ms: \(health.reason)",
          remedy: "Check bootstrap.servers and security.protocol, and that a broker listens there.")
      }
    }
  }

  private func take() {
    while let event = handle.nextEvent() {
      switch rd_kafka_event_type(event) {
      case RD_KAFKA_EVENT_ERROR:
        // SAFETY: the text lives until the event is destroyed, and is copied here.
        let reason = rd_kafka_event_error_string(event).map { String(cString: $0) } ?? ""
        health.note(rd_kafka_event_error(event), reason: reason, now: .now())
      case RD_KAFKA_EVENT_LOG:
        if let line = handle.logLine(event) {
          health.note(logLine: line.text)
          hasProducerID = hasProducerID || line.text.contains("Acquired PID{")
        }
      default: break
      }
      rd_kafka_event_destroy(event)
    }
  }

  func describeCluster(_ report: inout KafkaReport) throws(RelayError) {
    if let text = rd_kafka_clusterid(handle.client, milliseconds) {
      // SAFETY: the text is ours until it is freed, and is copied here.
      report.clusterID = String(cString: text)
      rd_kafka_mem_free(handle.client, text)
    }
    var metadata: UnsafePointer<rd_kafka_metadata>?
    let code = rd_kafka_metadata(handle.client, 0, nil, &metadata, milliseconds)
    guard code == RD_KAFKA_RESP_ERR_NO_ERROR, let metadata else {
      throw RelayError(
        .sinkFailed, "Kafka did not describe its brokers: \(KafkaFailure.text(code))",
        code: KafkaFailure.name(code))
    }
    defer { rd_kafka_metadata_destroy(metadata) }
    let brokers = UnsafeBufferPointer(
      start: metadata.pointee.brokers, count: Int(metadata.pointee.broker_cnt))
    // SAFETY: the metadata holds `broker_cnt` brokers with NUL-terminated hosts, until destroyed.
    report.brokers = brokers.map {
      .init(id: $0.id, host: $0.host.map { String(cString: $0) } ?? "", port: $0.port)
    }
    firstBroker = report.brokers.map(\.id).min()
    let names = report.brokers.map { "\($0.id) at \($0.host):\($0.port)" }.joined(separator: ", ")
    report.note(.ok, "connected to cluster \(report.clusterID ?? "without id"), brokers \(names)")
    guard let firstBroker,
      let values = handle.configuration(
        of: RD_KAFKA_RESOURCE_BROKER, String(firstBroker), milliseconds: milliseconds)
    else { return }
    report.createsTopics = values["auto.create.topics.enable"].map { $0 == "true" }
  }

  /// Whether Kafka gives this client a producer id, as the relay's producer needs one.
  func describeProducer(_ report: inout KafkaReport, broker: String) {
    let deadline = MonotonicTime.now().advanced(milliseconds: Int(milliseconds))
    take()
    while !hasProducerID, handle.fatalError == nil, MonotonicTime.now() < deadline {
      usleep(20_000)
      take()
    }
    if hasProducerID {
      report.note(.ok, "gives outboxd a producer id")
    } else if let (code, _) = handle.fatalError {
      report.note(
        .error,
        "gives outboxd no producer id; without one outboxd sends nothing: \(KafkaFailure.text(code))",
        remedy: KafkaFailure.fatal(code, reason: "", broker: broker).remedy)
    } else {
      report.note(
        .warning, "gave outboxd no producer id within \(milliseconds) ms; without one outboxd sends nothing",
        remedy: "See the brokers' logs; right after a cluster's first start it takes some seconds.")
    }
  }

  func describeTopic(
    _ name: String, key: KafkaInspector.Key, settings: KafkaSettings, _ report: inout KafkaReport
  ) {
    guard let topic = rd_kafka_topic_new(handle.client, name, nil) else {
      report.note(.error, "librdkafka does not accept this name", subject: name)
      return
    }
    defer { rd_kafka_topic_destroy(topic) }
    var metadata: UnsafePointer<rd_kafka_metadata>?
    var code = rd_kafka_metadata(handle.client, 0, topic, &metadata, milliseconds)
    var partitions = 0
    if let metadata {
      // SAFETY: the metadata holds `topic_cnt` topics until it is destroyed.
      if metadata.pointee.topic_cnt > 0, let first = metadata.pointee.topics {
        code = first.pointee.err
        partitions = Int(first.pointee.partition_cnt)
      }
      rd_kafka_metadata_destroy(metadata)
    }
    guard code == RD_KAFKA_RESP_ERR_NO_ERROR else {
      noteMissing(name, code, settings: settings, &report)
      return
    }
    let values = handle.configuration(of: RD_KAFKA_RESOURCE_TOPIC, name, milliseconds: milliseconds) ?? [:]
    let found = KafkaReport.Topic(
      name: name, partitions: partitions, maxMessageBytes: values["max.message.bytes"].flatMap { Int($0) },
      cleanupPolicy: values["cleanup.policy"])
    report.topics.append(found)
    let policy = found.cleanupPolicy.map { ", cleanup.policy=\($0)" } ?? ""
    report.note(.ok, "exists with \(partitions) partitions\(policy)", subject: name)
    noteLimit(found, broker: settings.commandBroker, &report)
    noteKey(found, key, &report)
  }

  private func noteLimit(_ topic: KafkaReport.Topic, broker: String, _ report: inout KafkaReport) {
    guard let limit = topic.maxMessageBytes else { return }
    if limit < batchSize {
      report.note(
        .warning,
        "takes batches of \(limit) bytes at most, and batch.size is \(batchSize): after each start its first batches "
          + "would be refused, and those of all topics then made smaller",
        subject: topic.name,
        remedy: "Set batch.size under kafka.properties to \(limit), or raise the topic's max.message.bytes: "
          + KafkaFailure.sizeChange(topic.name, broker: broker, bytes: String(max(batchSize, 1_048_588))))
    } else if limit < messageLimit {
      report.note(
        .warning,
        "takes records of \(limit) bytes at most, and message.max.bytes is \(messageLimit): an event between them "
          + "would stop the relay (exit code \(RelayError.Kind.recordRejected.exitCode))",
        subject: topic.name,
        remedy:
          "Set message.max.bytes under kafka.properties to \(limit), or raise the topic's max.message.bytes.")
    }
  }

  private func noteKey(_ topic: KafkaReport.Topic, _ key: KafkaInspector.Key, _ report: inout KafkaReport) {
    guard key != .always, topic.cleanupPolicy?.contains("compact") == true else { return }
    report.note(
      key == .never ? .error : .warning,
      "is compacted and takes no record without a key, and its events "
        + (key == .never ? "have none" : "have none where the key's column is NULL")
        + "; the relay would stop at such an event (exit code \(RelayError.Kind.recordRejected.exitCode))",
      subject: topic.name,
      remedy: "Set `key` of the outbox to columns that are NOT NULL, or the topic's cleanup.policy to delete."
    )
  }

  private func noteMissing(
    _ name: String, _ code: rd_kafka_resp_err_t, settings: KafkaSettings, _ report: inout KafkaReport
  ) {
    switch KafkaFailure(code) {
    case .topicMissing:
      let create = KafkaFailure.creation(of: name, broker: settings.commandBroker)
      if report.createsTopics == true, settings.missingTopic == .hold {
        report.note(
          .notice, "does not exist; the broker creates it at the first event", subject: name, remedy: create)
      } else {
        let consequence = settings.missingTopic == .hold ? "its events would wait" : "outboxd would halt"
        report.note(.error, "does not exist; \(consequence)", subject: name, remedy: create)
      }
    case .right:
      report.note(
        .error, "outboxd may not describe it or write to it", subject: name,
        remedy: KafkaFailure.writeGrant(name, broker: settings.commandBroker))
    default:
      report.note(.error, "lookup failed: \(KafkaFailure.text(code))", subject: name)
    }
  }
}
