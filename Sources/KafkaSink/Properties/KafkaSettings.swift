// Owns: what an operator says about Kafka.
// Must not know: the configuration file, librdkafka.

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
  /// False: as much is in flight as librdkafka queues, and every record lingers as its properties say.
  public var isAdaptive = true

  public init() {}

  /// The first broker, for commands in a remedy; `BROKER` where none is named here.
  var commandBroker: String {
    let servers = properties["bootstrap.servers"] ?? properties["metadata.broker.list"] ?? ""
    let first = servers.split(separator: ",").first.map { $0.drop { $0 == " " } } ?? ""
    let address = first.firstRange(of: "://").map { first[$0.upperBound...] } ?? first
    let isPlain = address.utf8.allSatisfy { byte in
      UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte || UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte | 0x20
        || "-.:[]_".utf8.contains(byte)
    }
    return address.isEmpty || !isPlain ? "BROKER" : String(address)
  }
}
