// Owns: librdkafka's mock cluster: a Kafka in memory, on 127.0.0.1, for the demonstration and for tests.
// Must not know: who connects. It keeps 5 MiB of a partition at most, and loses all of it at its end.
import CRdkafka
public import RelayCore

/// A Kafka in this process's memory. It takes plain connections from any process of this machine, creates
/// topics with 4 partitions when they are asked for, and serves on threads of its own.
public final class MockBroker {
  /// Kafka's numbers of requests, for `failRequests`.
  public enum Request: Int16, Sendable {
    case produce = 0
    case listOffsets = 2
    case metadata = 3
  }

  private let client: OpaquePointer
  private let cluster: OpaquePointer

  /// - Throws: `failed` where no port can be had.
  public init(brokers: Int = 1) throws(RelayError) {
    guard let configuration = rd_kafka_conf_new() else {
      throw RelayError(.failed, "librdkafka could not make a configuration")
    }
    // Its own client connects nowhere; what it would log is of no use.
    _ = KafkaProperties.set("log_level", "0", in: configuration)
    client = try KafkaProperties.client(RD_KAFKA_PRODUCER, configuration)
    guard let cluster = rd_kafka_mock_cluster_new(client, Int32(clamping: brokers)) else {
      rd_kafka_destroy(client)
      throw RelayError(.failed, "librdkafka could not start its mock cluster")
    }
    self.cluster = cluster
  }

  deinit {
    rd_kafka_mock_cluster_destroy(cluster)
    rd_kafka_destroy(client)
  }

  /// `127.0.0.1:PORT`, one for each broker.
  public var bootstrapServers: String {
    // SAFETY: the text lives as long as the cluster, and is copied here.
    rd_kafka_mock_cluster_bootstraps(cluster).map { String(cString: $0) } ?? ""
  }

  /// - Throws: `failed` with librdkafka's reason, as for a topic that is there.
  public func createTopic(_ name: String, partitions: Int = 4) throws(RelayError) {
    let code = rd_kafka_mock_topic_create(cluster, name, Int32(clamping: partitions), 1)
    guard code == RD_KAFKA_RESP_ERR_NO_ERROR else {
      throw RelayError(
        .failed, "the mock cluster did not create the topic \(name): \(KafkaFailure.text(code))",
        code: KafkaFailure.name(code))
    }
  }

  /// From now on the topic is answered with this error of Kafka when it is looked up; 0 ends it.
  public func setTopicError(_ name: String, code: Int32) {
    rd_kafka_mock_topic_set_error(cluster, name, rd_kafka_resp_err_t(rawValue: code))
  }

  /// The next requests of this kind fail, one for each code.
  public func failRequests(_ request: Request, codes: [Int32]) {
    let codes = codes.map { rd_kafka_resp_err_t(rawValue: $0) }
    rd_kafka_mock_push_request_errors_array(cluster, request.rawValue, codes.count, codes)
  }

  /// Hangs up on everybody and takes no connection until `setUp`.
  public func setDown(broker: Int32 = 1) { rd_kafka_mock_broker_set_down(cluster, broker) }
  public func setUp(broker: Int32 = 1) { rd_kafka_mock_broker_set_up(cluster, broker) }

  /// How long each answer of the broker takes, in milliseconds.
  public func setRoundTrip(broker: Int32 = 1, milliseconds: Int) {
    rd_kafka_mock_broker_set_rtt(cluster, broker, Int32(clamping: milliseconds))
  }
}
