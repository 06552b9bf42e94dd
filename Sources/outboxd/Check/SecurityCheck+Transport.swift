// Owns: the lines of `outboxd check` on what is protected on its way, and on who chooses the topic of an event.
// Must not know: libpq, librdkafka.
import KafkaSink
import PostgresSource
import RelayCore

extension SecurityCheck {
  static func kafka(_ configuration: Configuration) -> [Finding] {
    let transport = KafkaTransport(configuration.kafka)
    let warnings = transport.warnings.map { warning($0.message, $0.remedy ?? "") }
    return warnings.isEmpty ? [ok(transport.summary)] : warnings
  }

  /// Of any connection: the one that streams, or the one that reads tables.
  static func postgres(_ transport: PostgresTransport) -> Finding {
    transport.warning.map { warning($0.message, $0.remedy ?? "") } ?? ok(transport.summary)
  }

  /// A line for each outbox.
  static func topics(_ configuration: Configuration) -> [Finding] {
    let allowed = configuration.allowedTopics.patterns
    return configuration.outboxes.map { mapping in
      let subject = "outbox \(mapping.qualifiedName): the topic \(mapping.topic)"
      if !allowed.isEmpty { return ok("\(subject) is held to kafka.allowed_topics") }
      guard case .placeholder(let name)? = mapping.topic.parts.first,
        !["database", "schema", "table"].contains(name)
      else { return ok("\(subject) begins with a text of the configuration") }
      return warning(
        "\(subject) begins with a column: anyone who writes rows can choose any topic that outboxd may write to",
        "Name the topics that events may go to as kafka.allowed_topics, or begin the topic with a text.")
    }
  }
}
