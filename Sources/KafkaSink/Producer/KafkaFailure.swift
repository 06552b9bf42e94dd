// Owns: the one table that says what an error code of librdkafka or Kafka means.
// Must not know: who asks, and the words for it.
import CRdkafka
import RelayCore

/// What a code means, whoever meets it: in a delivery, in an answer about a topic, in an error event.
enum KafkaFailure: CaseIterable {
  /// The record, or one beside it in its batch, is refused for good.
  case record
  /// The batch is larger than the topic takes; a batch of one is a record that is too large.
  case size
  /// The record's time is out of the topic's limits. outboxd stamps records with the present, so that a clock is wrong.
  case clock
  /// Kafka refuses the login, or TLS fails. A person corrects it, or a file that is read again does.
  case login
  /// A right is missing. A person grants it.
  case right
  /// The topic does not exist.
  case topicMissing
  /// No topic can have that name.
  case topicName
  /// No broker answers.
  case unreachable
  /// The state of a broker or of a partition. It passes.
  case passing
  /// Nothing is wrong with the record: a new producer sends it again.
  case producer
  /// What was asked for is not possible with these brokers, or with this library. It does not heal.
  case configuration

  /// Codes that are not named here, those of later versions among them, belong to groups, transactions and the
  /// brokers among themselves, or are over with the next producer: INVALID_MSG (a checksum broken on the way), purges,
  /// epochs and sequences.
  init(_ code: rd_kafka_resp_err_t) {
    self = Self.named(code) ?? Self.numbered(code.rawValue) ?? .producer
  }

  var kind: RelayError.Kind {
    switch self {
    case .record, .size, .topicName: .recordRejected
    case .login, .right: .sinkDenied
    case .clock, .topicMissing, .unreachable, .passing, .producer: .sinkFailed
    case .configuration: .configurationInvalid
    }
  }

  private static func named(_ code: rd_kafka_resp_err_t) -> KafkaFailure? {
    switch code {
    case RD_KAFKA_RESP_ERR_INVALID_RECORD, RD_KAFKA_RESP_ERR_POLICY_VIOLATION,
      RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT, RD_KAFKA_RESP_ERR_UNKNOWN,
      RD_KAFKA_RESP_ERR__INVALID_ARG, RD_KAFKA_RESP_ERR__BAD_MSG:
      .record
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE,
      RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE:
      .size
    case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP: .clock
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED, RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM,
      RD_KAFKA_RESP_ERR_ILLEGAL_SASL_STATE, RD_KAFKA_RESP_ERR__AUTHENTICATION, RD_KAFKA_RESP_ERR__SSL,
      RD_KAFKA_RESP_ERR_UNACCEPTABLE_CREDENTIAL, RD_KAFKA_RESP_ERR_PRINCIPAL_DESERIALIZATION_FAILURE,
      RD_KAFKA_RESP_ERR_DELEGATION_TOKEN_AUTH_DISABLED, RD_KAFKA_RESP_ERR_DELEGATION_TOKEN_NOT_FOUND,
      RD_KAFKA_RESP_ERR_DELEGATION_TOKEN_OWNER_MISMATCH, RD_KAFKA_RESP_ERR_DELEGATION_TOKEN_EXPIRED,
      RD_KAFKA_RESP_ERR_DELEGATION_TOKEN_REQUEST_NOT_ALLOWED, RD_KAFKA_RESP_ERR_INVALID_PRINCIPAL_TYPE:
      .login
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
      RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
      RD_KAFKA_RESP_ERR_DELEGATION_TOKEN_AUTHORIZATION_FAILED:
      .right
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC: .topicMissing
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION: .topicName
    case RD_KAFKA_RESP_ERR__TRANSPORT, RD_KAFKA_RESP_ERR__RESOLVE, RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN,
      RD_KAFKA_RESP_ERR__TIMED_OUT, RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE, RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION:
      .unreachable
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_COMPRESSION_TYPE, RD_KAFKA_RESP_ERR_INVALID_REQUIRED_ACKS,
      RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION, RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE,
      RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED, RD_KAFKA_RESP_ERR__NOT_CONFIGURED,
      RD_KAFKA_RESP_ERR__UNKNOWN_PROTOCOL:
      .configuration
    default: passes(code) ? .passing : nil
    }
  }

  private static func passes(_ code: rd_kafka_resp_err_t) -> Bool {
    switch code {
    case RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
      RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE, RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE,
      RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT, RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
      RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND, RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
      RD_KAFKA_RESP_ERR_LOG_DIR_NOT_FOUND, RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE,
      RD_KAFKA_RESP_ERR_STALE_CTRL_EPOCH, RD_KAFKA_RESP_ERR_STALE_BROKER_EPOCH,
      RD_KAFKA_RESP_ERR_NOT_CONTROLLER,
      RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH, RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH,
      RD_KAFKA_RESP_ERR_PREFERRED_LEADER_NOT_AVAILABLE, RD_KAFKA_RESP_ERR_ELIGIBLE_LEADERS_NOT_AVAILABLE,
      RD_KAFKA_RESP_ERR_REASSIGNMENT_IN_PROGRESS, RD_KAFKA_RESP_ERR_LISTENER_NOT_FOUND,
      RD_KAFKA_RESP_ERR_THROTTLING_QUOTA_EXCEEDED, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
      RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
      RD_KAFKA_RESP_ERR_INVALID_PARTITIONS, RD_KAFKA_RESP_ERR_INVALID_REPLICATION_FACTOR,
      RD_KAFKA_RESP_ERR_INVALID_REPLICA_ASSIGNMENT, RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION,
      RD_KAFKA_RESP_ERR__ISR_INSUFF, RD_KAFKA_RESP_ERR__WAIT_COORD, RD_KAFKA_RESP_ERR__WAIT_CACHE,
      RD_KAFKA_RESP_ERR__NODE_UPDATE, RD_KAFKA_RESP_ERR__UNKNOWN_BROKER, RD_KAFKA_RESP_ERR__IN_PROGRESS,
      RD_KAFKA_RESP_ERR__PREV_IN_PROGRESS, RD_KAFKA_RESP_ERR__RETRY:
      true
    default: false
    }
  }

  /// Codes that librdkafka 2.0.2 has no names for.
  private static func numbered(_ code: Int32) -> KafkaFailure? {
    switch code {
    // UNKNOWN_TOPIC_ID, INCONSISTENT_TOPIC_ID: the topic was deleted and created again.
    case 100, 103: .topicMissing
    // UNKNOWN_CONTROLLER_ID, REBOOTSTRAP_REQUIRED.
    case 116, 129: .passing
    // MISMATCHED_ENDPOINT_TYPE, UNSUPPORTED_ENDPOINT_TYPE: the port is a controller's.
    case 114, 115: .configuration
    default: nil
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
}
