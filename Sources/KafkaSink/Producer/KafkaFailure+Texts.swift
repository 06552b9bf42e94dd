// Owns: the words for what Kafka refuses, and what to do about it.
// Must not know: who asks. Nothing here holds a payload, a key or a secret.
import CRdkafka
import RelayCore

extension KafkaFailure {
  /// A record that was refused before it was queued, or came back undelivered.
  static func record(
    _ code: rd_kafka_resp_err_t, topic: String, partition: Int32?, sizes: RecordSizes,
    broker: String = "BROKER"
  ) -> RelayError {
    let place = partition.map { $0 >= 0 ? ", partition \($0)" : "" } ?? ""
    let failure = KafkaFailure(code)
    let verb: String
    switch failure {
    case .clock:
      verb = "Kafka refused the timestamp \(RFC3339.string(microseconds: postgresNow(), digits: 3)) of"
    case .record, .size, .right, .login, .topicName, .configuration: verb = "Kafka refused"
    case .topicMissing, .unreachable, .passing, .producer: verb = "Kafka did not take"
    }
    return RelayError(
      failure.kind, "\(verb) a record for topic \"\(topic)\"\(place) (\(sizes)): \(text(code))",
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

  /// A batch of several records that the topic does not take in one. A producer with smaller batches sends them at once.
  /// - Parameters:
  ///   - topicLimit: the topic's max.message.bytes; nil where Kafka does not tell it to outboxd.
  ///   - limit: what batches of all topics take from now on.
  static func batchTooLarge(
    _ code: rd_kafka_resp_err_t, topic: String, topicLimit: Int?, records: Int, limit: Int, broker: String
  ) -> RelayError {
    let reason = topicLimit.map { "its max.message.bytes is \($0)" } ?? text(code)
    var error = RelayError(
      .sinkFailed,
      "topic \"\(topic)\" refused a batch of \(records) records as too large: \(reason). Batches of all topics "
        + "are limited to \(limit) bytes until outboxd ends",
      code: name(code),
      remedy:
        "Nothing is lost. Small batches are slow, and the topic's first ones are refused again after each start: "
        + "raise the topic's limit (\(sizeChange(topic, broker: broker, bytes: "1048588"))), or set batch.size under "
        + "kafka.properties to \(topicLimit ?? limit).")
    error.isRemedied = true
    return error
  }

  private static func remedy(
    _ code: rd_kafka_resp_err_t, topic: String, sizes: RecordSizes, broker: String
  ) -> String? {
    switch code {
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED: return writeGrant(topic, broker: broker)
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED: return idempotentGrant(broker: broker)
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_COMPRESSION_TYPE:
      return "Set compression.type under kafka.properties to one that the topic takes."
    case RD_KAFKA_RESP_ERR_INVALID_RECORD, RD_KAFKA_RESP_ERR_POLICY_VIOLATION:
      return
        "Check the topic's configuration: a compacted topic takes no record without a key, and a broker "
        + "may validate schemas."
    case RD_KAFKA_RESP_ERR_UNKNOWN:
      return "The broker failed on the record and gave no reason: see its log (server.log) at this time."
    default: break
    }
    switch KafkaFailure(code) {
    case .size:
      return "Raise the topic's limit above \(sizes.total + 1024): "
        + sizeChange(topic, broker: broker, bytes: "N")
    case .clock:
      return
        "outboxd stamps records with this machine's clock: compare it with the clocks of the brokers, then with "
        + "the topic's message.timestamp.before.max.ms and message.timestamp.after.max.ms "
        + "(message.timestamp.difference.max.ms before Kafka 3.6). The record is sent again with a new timestamp."
    case .configuration:
      return
        "outboxd needs brokers of Kafka 0.11 or later with idempotent producers: check the brokers' version, that "
        + "bootstrap.servers names brokers and no controllers, and the properties under kafka.properties."
    default: return nil
    }
  }

  static func sizeChange(_ topic: String, broker: String, bytes: String) -> String {
    "kafka-configs.sh --bootstrap-server \(broker) --alter --entity-type topics --entity-name \(topic) --add-config "
      + "max.message.bytes=\(bytes)"
  }

  static func idempotentGrant(broker: String) -> String {
    "Grant Write on the topics, which is enough from Kafka 2.8 on, or before that: kafka-acls.sh "
      + "--bootstrap-server \(broker) --add --allow-principal User:NAME --operation IdempotentWrite --cluster"
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

  /// The producer cannot continue.
  static func fatal(_ code: rd_kafka_resp_err_t, reason: String, broker: String) -> RelayError {
    let kind = KafkaFailure(code).kind
    // Which record it was is told by its delivery.
    return RelayError(
      kind == .recordRejected ? .sinkFailed : kind, "the Kafka producer cannot continue: \(reason)",
      code: name(code),
      remedy: kind == .sinkFailed ? nil : remedy(code, topic: "TOPIC", sizes: RecordSizes(), broker: broker))
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
      remedy: loginRemedy(mechanism: mechanism))
  }

  /// - Parameter mechanism: in capitals; empty without SASL.
  private static func loginRemedy(mechanism: String) -> String {
    switch mechanism {
    case "":
      "The listener may require a login: check security.protocol and the port in bootstrap.servers."
    case "OAUTHBEARER":
      "Check sasl.oauthbearer.token.endpoint.url, sasl.oauthbearer.client.id, sasl.oauthbearer.client.secret and "
        + "sasl.oauthbearer.scope under kafka.properties, and that the brokers accept this issuer and audience."
    case "GSSAPI":
      "Check sasl.kerberos.principal, sasl.kerberos.keytab and sasl.kerberos.service.name under kafka.properties, that "
        + "kinit -k -t KEYTAB PRINCIPAL succeeds, and the clocks of this machine and the KDC."
    default:
      "Check sasl.mechanism, sasl.username and sasl.password (or sasl.password_file) under kafka.properties against "
        + "the brokers."
    }
  }

  private static func isScramRefusal(
    _ code: rd_kafka_resp_err_t, reason: String, mechanism: String, version: Int32
  ) -> Bool {
    code == RD_KAFKA_RESP_ERR__AUTHENTICATION && mechanism.hasPrefix("SCRAM")
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
