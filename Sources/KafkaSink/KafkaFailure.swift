// Owns: the one table that says what an error code of librdkafka or Kafka means for a record and for the
// producer, and the words for it.
// Must not know: who asks. Nothing here holds a payload, a key or a secret.
import CRdkafka
import RelayCore

/// What a failure means.
enum KafkaFailure: Equatable {
  /// The record, or one beside it in its batch, is refused for good.
  case recordRejected
  /// Kafka refuses this client. A person mends it.
  case denied
  /// Nothing is wrong with the record: a new producer sends it again.
  case producerFailed

  init(_ code: rd_kafka_resp_err_t) {
    switch code {
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE,
      RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE, RD_KAFKA_RESP_ERR_INVALID_RECORD,
      RD_KAFKA_RESP_ERR_POLICY_VIOLATION, RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP,
      RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT, RD_KAFKA_RESP_ERR_UNSUPPORTED_COMPRESSION_TYPE,
      RD_KAFKA_RESP_ERR_INVALID_REQUIRED_ACKS, RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION,
      RD_KAFKA_RESP_ERR_UNKNOWN, RD_KAFKA_RESP_ERR__INVALID_ARG, RD_KAFKA_RESP_ERR__BAD_MSG:
      self = .recordRejected
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
      RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED, RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED,
      RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM, RD_KAFKA_RESP_ERR_ILLEGAL_SASL_STATE,
      RD_KAFKA_RESP_ERR__AUTHENTICATION, RD_KAFKA_RESP_ERR__SSL:
      self = .denied
    default:
      // Among them INVALID_MSG (a checksum broken on the way), quotas, purges, epochs and sequences, and
      // a topic that went away: all of them are over with the next producer, or held there.
      self = .producerFailed
    }
  }

  var kind: RelayError.Kind {
    switch self {
    case .recordRejected: .recordRejected
    case .denied: .sinkDenied
    case .producerFailed: .sinkFailed
    }
  }

  /// `MSG_SIZE_TOO_LARGE`.
  static func name(_ code: rd_kafka_resp_err_t) -> String {
    // SAFETY: librdkafka returns a static, NUL-terminated text.
    rd_kafka_err2name(code).map { String(cString: $0) } ?? String(code.rawValue)
  }

  /// `Broker: Message size too large`.
  static func text(_ code: rd_kafka_resp_err_t) -> String {
    // SAFETY: librdkafka returns a static, NUL-terminated text.
    rd_kafka_err2str(code).map { String(cString: $0) } ?? "error \(code.rawValue)"
  }

  // MARK: Errors in full

  /// A record that was refused before it was queued, or came back undelivered.
  static func record(
    _ code: rd_kafka_resp_err_t, topic: String, partition: Int32?, sizes: RecordSizes,
    broker: String = "BROKER"
  ) -> RelayError {
    let place = partition.map { $0 >= 0 ? ", partition \($0)" : "" } ?? ""
    let failure = KafkaFailure(code)
    let what = failure == .producerFailed ? "Kafka did not take" : "Kafka refused"
    return RelayError(
      failure.kind, "\(what) a record for topic \"\(topic)\"\(place) (\(sizes)): \(text(code))",
      code: name(code), remedy: remedy(code, topic: topic, sizes: sizes, broker: broker))
  }

  /// A record that librdkafka itself does not take.
  static func tooLarge(topic: String, sizes: RecordSizes, limit: Int) -> RelayError {
    RelayError(
      .recordRejected,
      "a record for topic \"\(topic)\" is larger than message.max.bytes allows (\(sizes), limit \(limit) bytes)",
      code: name(RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE),
      remedy: "Raise message.max.bytes under kafka.properties above \(sizes.total + 1024), and the topic's "
        + "max.message.bytes with it; or make the event smaller.")
  }

  private static func remedy(
    _ code: rd_kafka_resp_err_t, topic: String, sizes: RecordSizes, broker: String
  ) -> String? {
    switch code {
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE,
      RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE:
      "Raise the topic's limit above \(sizes.total + 1024): kafka-configs.sh --bootstrap-server \(broker) --alter "
        + "--entity-type topics --entity-name \(topic) --add-config max.message.bytes=N"
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED: writeGrant(topic, broker: broker)
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
      "Grant Write on the topics, which is enough from Kafka 2.8 on, or before that: kafka-acls.sh "
        + "--bootstrap-server \(broker) --add --allow-principal User:NAME --operation IdempotentWrite --cluster"
    case RD_KAFKA_RESP_ERR_INVALID_RECORD, RD_KAFKA_RESP_ERR_POLICY_VIOLATION:
      "Look at the topic's configuration: a compacted topic takes no record without a key, and a broker "
        + "may validate schemas."
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_COMPRESSION_TYPE:
      "Set compression.type under kafka.properties to one that the topic takes."
    default: nil
    }
  }

  static func writeGrant(_ topic: String, broker: String) -> String {
    "Grant it: kafka-acls.sh --bootstrap-server \(broker) --add --allow-principal User:NAME --operation Write "
      + "--operation Describe --topic \(topic)"
  }

  static func readGrant(_ topic: String, broker: String) -> String {
    "Grant it: kafka-acls.sh --bootstrap-server \(broker) --add --allow-principal User:NAME --operation Read "
      + "--topic \(topic)"
  }

  static func creation(of topic: String, broker: String) -> String {
    "kafka-topics.sh --bootstrap-server \(broker) --create --topic \(topic) --partitions N "
      + "--replication-factor N"
  }

  /// The producer cannot go on.
  static func fatal(_ code: rd_kafka_resp_err_t, reason: String, broker: String) -> RelayError {
    let kind: RelayError.Kind = KafkaFailure(code) == .denied ? .sinkDenied : .sinkFailed
    return RelayError(
      kind, "the Kafka producer cannot go on: \(reason)", code: name(code),
      remedy: kind == .sinkDenied
        ? remedy(code, topic: "TOPIC", sizes: RecordSizes(), broker: broker) : nil)
  }

  /// Kafka refused the connection.
  static func denied(
    _ code: rd_kafka_resp_err_t, reason: String, mechanism: String, certificate: String?,
    version: Int32 = rd_kafka_version()
  ) -> RelayError {
    if let certificate, code == RD_KAFKA_RESP_ERR__SSL || reason.contains("certificate verify failed") {
      // librdkafka's text begins with the broker, and the rest of it only guesses.
      let broker = reason.firstRange(of: ": ").map { String(reason[..<$0.lowerBound]) } ?? reason
      return RelayError(
        .sinkDenied, "TLS to Kafka at \(broker) failed: \(certificate)", code: name(code),
        remedy: "Set ssl.ca.location to the CA of the brokers, and connect by a name in their certificate.")
    }
    if isScramRefusal(code, reason: reason, mechanism: mechanism, version: version) {
      return RelayError(
        .sinkDenied,
        "librdkafka \(KafkaProperties.libraryVersion) cannot do SCRAM with brokers of Kafka 3.7.2, 3.8.1, 4.0 "
          + "and later: before 2.6.1 it doubles a nonce, which brokers refuse since CVE-2024-56128 (\(reason))",
        code: name(code),
        remedy:
          "Use librdkafka 2.6.1 or later, or sasl.mechanism=PLAIN over TLS; "
          + "only with brokers older than these may the name or password be wrong.")
    }
    if code == RD_KAFKA_RESP_ERR__SSL || reason.contains("SSL") {
      return RelayError(
        .sinkDenied, "TLS to Kafka failed: \(reason)", code: name(code), remedy: tlsRemedy(reason))
    }
    return RelayError(
      .sinkDenied, "Kafka refused to authenticate outboxd: \(reason)", code: name(code),
      remedy: "Check sasl.mechanism, sasl.username and sasl.password (or sasl.password_file) under "
        + "kafka.properties against the brokers.")
  }

  private static func isScramRefusal(
    _ code: rd_kafka_resp_err_t, reason: String, mechanism: String, version: Int32
  ) -> Bool {
    code == RD_KAFKA_RESP_ERR__AUTHENTICATION && mechanism.uppercased().hasPrefix("SCRAM")
      && version < 0x0206_01ff && reason.contains("invalid credentials")
  }

  private static func tlsRemedy(_ reason: String) -> String {
    if reason.contains("alert") {
      return "The broker refused outboxd's certificate: set ssl.certificate.location and ssl.key.location "
        + "to a pair that the broker's CA has signed."
    }
    if reason.contains("eof") || reason.contains("wrong version") {
      return "The port may not speak TLS: check security.protocol and the port in bootstrap.servers."
    }
    return "Check the ssl.* properties under kafka.properties against the brokers."
  }
}

/// How large the parts of a record are. What a message may say about a record.
struct RecordSizes: CustomStringConvertible {
  var key: Int?
  var value: Int?
  var headers = 0

  var total: Int { (key ?? 0) + (value ?? 0) + headers }

  var description: String {
    let key = key.map { "\($0) bytes" } ?? "null"
    let value = value.map { "\($0) bytes" } ?? "null"
    return "key \(key), value \(value), headers \(headers) bytes"
  }
}
