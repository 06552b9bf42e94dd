// Owns: the one place where the configuration asks the sink whether it would take the properties.
// Must not know: which properties librdkafka has.
import KafkaSink

enum KafkaPropertyCheck {
  struct Problem: Equatable {
    var property: String
    var message: String
    var suggestion: String?
  }

  /// A problem for each property that the sink refuses, or that librdkafka does not know.
  static func kafkaPropertyFaults(_ settings: KafkaSettings) -> [Problem] {
    []
  }
}
