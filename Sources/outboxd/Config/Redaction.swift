// Owns: what a secret looks like when it is printed, and which settings are secrets.
// Must not know: where it is printed.
import KafkaSink
import PostgresSource
import RelayCore

enum Redaction {
  /// As `redactedConninfo` writes them.
  static let dots = "••••••••"

  /// Whether the value of a librdkafka property is a secret.
  static func isSecret(property name: String) -> Bool {
    KafkaProperties.isSecret(name)
  }

  /// A conninfo, from keywords or a URI, as keywords with dots for its passwords. What libpq cannot read is
  /// dots as a whole.
  static func conninfo(_ text: String) -> String {
    do throws(RelayError) {
      return try redactedConninfo(text)
    } catch {
      return dots
    }
  }
}
