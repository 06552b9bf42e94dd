// Owns: `outboxd version`, and the versions of everything that the process is made of.
// Must not know: where a version comes from.
import CMicrohttpd
import CYaml
import KafkaSink
import PostgresSource
import RelayCore

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
