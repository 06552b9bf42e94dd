// Owns: `outboxd version`, and the versions of everything that the process is made of.
import CMicrohttpd
import CYaml
import KafkaSink
import PostgresSource
import RelayCore

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

enum VersionCommand {
  static func run(_ invocation: Invocation) -> Int32 {
    let rows =
      [("outboxd", Versions.outboxd), ("swift", Versions.swift)] + Versions.libraries.map { ($0, $1) }
    if invocation.isSet("json") {
      Terminal.printOutput(JSONValue.object(rows.map { .init($0.0, .text($0.1)) }).pretty)
    } else {
      Terminal.printOutput(rows.map { "\($0.0) \($0.1)\n" }.joined())
    }
    return 0
  }
}
