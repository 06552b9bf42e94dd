// Owns: the versions of everything that the process is made of.
// Must not know: who asks.
import CMicrohttpd
import CYaml
import KafkaSink
import PostgresSource

enum Versions {
  static let outboxd = "0.1.0"

  /// The compiler's; the language has no constant for it.
  static var swift: String {
    #if compiler(>=6.5)
      "6.5 or later"
    #elseif compiler(>=6.4)
      "6.4"
    #elseif compiler(>=6.3)
      "6.3"
    #else
      "6.2"
    #endif
  }

  /// The libraries that this process runs with, not those it was built against.
  static let libraries: [(name: String, version: String)] = [
    ("libpq", PostgresSettings.libraryVersion),
    ("librdkafka", KafkaProperties.libraryVersion),
    // SAFETY: both return constants of their library.
    ("libmicrohttpd", MHD_get_version().map { String(cString: $0) } ?? "unknown"),
    ("libyaml", yaml_get_version_string().map { String(cString: $0) } ?? "unknown"),
  ]
}
