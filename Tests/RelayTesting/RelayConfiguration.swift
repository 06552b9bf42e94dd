// Owns: the text of a configuration file for a test.
import Foundation

/// What a test says about one run of outboxd. The text of the sections is YAML, as an operator writes it.
public struct RelayConfiguration {
  /// For the role `outboxd`.
  public var conninfo: String
  /// The role that reads the tables, by the same way. Nil: the first one does.
  public var reader: String?
  /// More lines of the section `postgres`.
  public var postgres: [String] = []
  public var properties: [String: String]
  /// More lines of the section `kafka`.
  public var kafka: [String] = []
  /// The list below `outboxes:`; empty for the default, `public.outbox`.
  public var outboxes: String
  /// The section `relay`.
  public var relay: [String] = []
  public var level = "info"

  public init(conninfo: String, brokers: String, outboxes: String = "") {
    self.conninfo = conninfo
    properties = ["bootstrap.servers": brokers]
    self.outboxes = outboxes
  }

  public var text: String {
    var lines = ["postgres:", "  conninfo: \(Self.quoted(conninfo))"]
    if let reader {
      let conninfo = conninfo.replacingOccurrences(of: "user=outboxd", with: "user=\(reader)")
      lines.append("  read_conninfo: \(Self.quoted(conninfo))")
    }
    lines += postgres.map { "  " + $0 }
    lines += ["kafka:", "  properties:"]
    lines += properties.sorted { $0.key < $1.key }.map { "    \($0.key): \(Self.quoted($0.value))" }
    lines += kafka.map { "  " + $0 }
    if !outboxes.isEmpty {
      lines.append("outboxes:")
      lines += outboxes.split(separator: "\n").map { "  " + $0 }
    }
    if !relay.isEmpty { lines += ["relay:"] + relay.map { "  " + $0 } }
    lines += ["admin:", "  listen: 127.0.0.1:0", "log:", "  format: json", "  level: \(level)"]
    return lines.joined(separator: "\n") + "\n"
  }

  private static func quoted(_ text: String) -> String {
    "\"" + text.replacingOccurrences(of: "\\", with: "\\\\").replacingOccurrences(of: "\"", with: "\\\"")
      + "\""
  }

  /// Writes the file into a folder of its own and returns its path.
  public func write() throws -> String {
    let path = TestFolder.make("configuration") + "/outboxd.yaml"
    try Data(text.utf8).write(to: URL(fileURLWithPath: path))
    return path
  }
}
