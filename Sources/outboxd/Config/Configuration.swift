// Owns: what an operator says, as values. Each has the default of the configuration file.
// Must not know: YAML, the environment, flags.
import KafkaSink
import PostgresSource
import RelayCore

struct Configuration: Equatable, Sendable {
  var postgres = PostgresSettings()
  var kafka = KafkaSettings()
  var outboxes = [OutboxMapping()]
  /// Nil: no admin server.
  var admin: AdminSettings? = AdminSettings()
  /// Names of this host in requests to the admin server, in lower case, without a port. Empty: see `AdminHosts`.
  var adminHosts: [String] = []
  var relay = RelaySettings()
  var log = LogSettings()
}

extension Configuration {
  /// Whether reading, lingering, window and receive buffer follow the load.
  var isAdaptive: Bool {
    get { relay.isAdaptive }
    set {
      relay.isAdaptive = newValue
      postgres.isAdaptive = newValue
      kafka.isAdaptive = newValue
    }
  }

  /// Where events of any outbox may go.
  var allowedTopics: AllowedTopics { outboxes.first?.allowedTopics ?? AllowedTopics() }
}
