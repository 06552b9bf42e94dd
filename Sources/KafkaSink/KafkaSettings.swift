// Owns: what an operator says about Kafka.

/// Every field has the default of the configuration file.
public struct KafkaSettings: Equatable, Sendable {
  /// What happens to a record whose topic does not exist.
  public enum MissingTopic: String, CaseIterable, Sendable {
    /// The relay waits until the topic is there.
    case hold
    /// The relay halts.
    case refuse
  }

  /// librdkafka's properties, checked against the ones that the promises rest on.
  public var properties: [String: String] = [:]
  /// The properties that were given as `KEY_file`: the file is read each time a producer is built.
  public var propertyFiles: [String: String] = [:]
  public var missingTopic = MissingTopic.hold

  public init() {}
}
