// Owns: the effective configuration as YAML, with dots for secrets. But for those it can be loaded again.
// Must not know: where a value came from.
import KafkaSink
import PostgresSource
import RelayCore

enum ConfigurationPrinter {
  /// Every key that has a value, in the order of `ConfigurationKey.all`.
  static func yaml(_ configuration: Configuration) -> String {
    var writer = Writer()
    let postgres = configuration.postgres
    writer.section("postgres")
    writer.value("conninfo", Redaction.conninfo(postgres.conninfo))
    writer.value("password_file", postgres.passwordFile)
    writer.value("read_conninfo", postgres.readConninfo.map(Redaction.conninfo))
    writer.value("read_password_file", postgres.readPasswordFile)
    writer.value("slot", postgres.slot)
    writer.value("publication", postgres.publication)
    writer.value("journal", postgres.journal.rawValue)
    writer.end()
    writer.section("replay")
    writer.value("window", ConfigurationValues.windowText(seconds: postgres.replayWindow))
    writer.value("max_bytes", ConfigurationValues.sizeText(postgres.replayMaxBytes))
    writer.end()
    kafka(configuration.kafka, allowedTopics: configuration.allowedTopics.patterns, to: &writer)
    outboxes(configuration.outboxes, to: &writer)
    writer.section("relay")
    writer.value(
      "drain_timeout", ConfigurationValues.durationText(milliseconds: configuration.relay.drainTimeout))
    writer.value("skip_delivered", configuration.relay.skipDelivered ? "true" : "false")
    writer.value("check_origin", configuration.relay.checkOrigin ? "true" : "false")
    writer.value("adaptive", configuration.isAdaptive ? "on" : "off")
    writer.end()
    writer.section("admin")
    writer.value("listen", configuration.admin?.text ?? "off")
    writer.list("hosts", configuration.adminHosts)
    writer.end()
    writer.section("log")
    writer.value("level", configuration.log.level.name)
    writer.value("format", configuration.log.format.rawValue)
    return writer.text
  }

  private static func kafka(
    _ settings: KafkaSettings, allowedTopics: [String], to writer: inout Writer
  ) {
    writer.section("kafka")
    writer.section("properties")
    let properties = settings.properties.map { name, value in
      (name, Redaction.isSecret(property: name) ? Redaction.dots : value)
    }
    let files = settings.propertyFiles.map { ($0.key + ConfigurationLayer.fileSuffix, $0.value) }
    for (name, value) in (properties + files).sorted(by: { $0.0 < $1.0 }) { writer.value(name, value) }
    writer.end()
    writer.value("missing_topic", settings.missingTopic.rawValue)
    writer.list("allowed_topics", allowedTopics)
    writer.end()
  }

  /// What events are made by.
  static func yaml(_ mappings: [OutboxMapping]) -> String {
    var writer = Writer()
    outboxes(mappings, to: &writer)
    return writer.text
  }

  private static func outboxes(_ mappings: [OutboxMapping], to writer: inout Writer) {
    writer.section("outboxes")
    for mapping in mappings { outbox(mapping, to: &writer) }
    writer.end()
  }

  private static func outbox(_ mapping: OutboxMapping, to writer: inout Writer) {
    writer.item("table", mapping.qualifiedName)
    writer.value("source", mapping.source.description)
    writer.value("topic", mapping.topic.description)
    writer.value("key", mapping.key?.description ?? "none")
    writer.value("content_mode", mapping.contentMode.rawValue)
    writer.value("datacontenttype", mapping.datacontenttype)
    writer.value("dataschema", mapping.dataschema?.description)
    if !mapping.extensions.isEmpty {
      writer.section("extensions")
      for attribute in mapping.extensions { writer.value(attribute.name, attribute.column) }
      writer.end()
    }
    writer.value("partitionkey", mapping.partitionkey ? "true" : "false", isText: false)
    writer.value("on_rejection", mapping.onRejection.rawValue)
    let columns = columnNames(mapping.columns)
    if columns.contains(where: { $0.1 != nil }) {
      writer.section("columns")
      for (name, column) in columns { writer.value(name, column) }
      writer.end()
    }
    writer.end()
  }

  private static func columnNames(_ columns: OutboxMapping.Columns) -> [(String, String?)] {
    [
      ("id", columns.id), ("type", columns.type), ("payload", columns.payload), ("subject", columns.subject),
      ("aggregatetype", columns.aggregatetype), ("time", columns.time), ("headers", columns.headers),
      ("datacontenttype", columns.datacontenttype), ("time_zone", columns.timeZone?.name),
    ]
  }

  /// Block style, two spaces for each level.
  private struct Writer {
    var text = ""
    private var depth = 0

    private var indent: String { String(repeating: "  ", count: depth) }

    mutating func section(_ name: String) {
      text += "\(indent)\(name):\n"
      depth += 1
    }

    mutating func end() { depth -= 1 }

    /// The first key of an item of a list. The item's other keys follow until `end`.
    mutating func item(_ name: String, _ value: String) {
      text += "\(indent)- \(name): \(scalar(value))\n"
      depth += 1
    }

    mutating func value(_ name: String, _ value: String?, isText: Bool = true) {
      guard let value else { return }
      text += "\(indent)\(scalar(name)): \(isText ? scalar(value) : value)\n"
    }

    mutating func list(_ name: String, _ values: [String]) {
      guard !values.isEmpty else { return }
      text += "\(indent)\(scalar(name)): [\(values.map(scalar).joined(separator: ", "))]\n"
    }

    /// Plain where no reader of YAML could take it for anything else. A dollar is doubled, or it would be
    /// expanded at the next load.
    private func scalar(_ text: String) -> String {
      let text = text.split(separator: "$", omittingEmptySubsequences: false).joined(separator: "$$")
      let words = ["true", "false", "null", "yes", "no", "on", "y", "n"]
      let isPlain =
        text.utf8.first.map { (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0) || $0 == 0x2F }
        ?? false
        && text.utf8.allSatisfy {
          (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0) || (0x30...0x39).contains($0)
            || "._-/@=+".utf8.contains($0)
        } && !words.contains(text.lowercased())
      return isPlain ? text : PrintableText.quoted(text)
    }
  }
}
