// Owns: where events go, in the words of a message.
// Must not know: when it is said.
import KafkaSink
import RelayCore

extension Configuration {
  /// Where events go, for messages.
  var destination: String {
    let servers = kafka.properties["bootstrap.servers"] ?? kafka.properties["metadata.broker.list"]
    let topics = outboxes.map(\.topic.description)
    let names = topics.indices.filter { topics.firstIndex(of: topics[$0]) == $0 }.map { topics[$0] }
    return "topic \(names.joined(separator: ", ")) of the brokers \(servers ?? "in the configuration")"
  }

  /// The failure, with where events would go if the server is a copy.
  func destined(_ error: RelayError) -> RelayError {
    guard error.mayBeCopy else { return error }
    var error = error
    error.message += "; events would go to \(destination)"
    return error
  }
}
