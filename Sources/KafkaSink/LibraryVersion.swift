// Owns: the version of the librdkafka that this process runs with.
import CRdkafka

extension KafkaSettings {
  public static let libraryVersion: String = {
    // SAFETY: a constant of the library.
    rd_kafka_version_str().map { String(cString: $0) } ?? "unknown"
  }()
}
