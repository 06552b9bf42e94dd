// Owns: what the sink says against the properties of the configuration.
// Must not know: which properties librdkafka has.
import KafkaSink

struct KafkaPropertyProblem: Equatable {
  /// As the operator wrote it, without `_file`.
  var property: String
  var message: String

  /// A problem for each property that the sink refuses, or that librdkafka does not know.
  static func all(in settings: KafkaSettings) -> [KafkaPropertyProblem] {
    KafkaProperties.faults(settings).map {
      KafkaPropertyProblem(property: $0.property, message: "kafka.properties: \($0.property) \($0.reason)")
    }
  }
}
