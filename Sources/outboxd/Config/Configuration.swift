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
  /// Where events of any outbox may go.
  var allowedTopics: AllowedTopics { outboxes.first?.allowedTopics ?? AllowedTopics() }
}

struct AdminSettings: Equatable, Sendable {
  /// A host name or address, without the brackets of IPv6. Empty: every address of the machine.
  var host = "127.0.0.1"
  /// 0 lets the system choose.
  var port: UInt16 = 9464

  /// As the configuration writes it.
  var text: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}

struct RelaySettings: Equatable, Sendable {
  /// In milliseconds: how long a stop waits for Kafka's acknowledgements.
  var drainTimeout = 25_000
  /// After an unclean stop, what Kafka has already is not sent again.
  var skipDelivered = true
  var checkOrigin = true
}

struct LogSettings: Equatable, Sendable {
  var level = Log.Level.info
  var format = Log.Format.text

  func makeLog(metrics: RelayMetrics? = nil) -> Log { Log(level: level, format: format, metrics: metrics) }
}
