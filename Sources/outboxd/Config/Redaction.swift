// Owns: how a secret is printed, and which settings are secrets.
// Must not know: where it is printed.
import KafkaSink
import PostgresSource
import RelayCore

enum Redaction {
  static let dots = PrintableText.secret

  /// Whether the value of a librdkafka property is a secret.
  static func isSecret(property name: String) -> Bool {
    KafkaProperties.isSecret(name)
  }

  /// A word of the command line, with dots in place of a secret that `--set` gives.
  static func word(_ text: String, of option: String) -> String {
    guard option == "set", let key = text.split(separator: "=", maxSplits: 1).first else { return text }
    let value = text.dropFirst(key.count + 1)
    if key.hasSuffix("conninfo") { return "\(key)=\(conninfo(String(value)))" }
    let property = key.hasPrefix("kafka.properties.") ? key.dropFirst("kafka.properties.".count) : ""
    return isSecret(property: String(property)) ? "\(key)=\(dots)" : text
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
