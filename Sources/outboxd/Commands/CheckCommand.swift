// Owns: `outboxd check`: one line for each finding, and its remedy.
// Must not know: catalog queries, librdkafka.
import KafkaSink
import PostgresSource
import RelayCore

enum CheckCommand {
  /// - Returns: 0, or 1 if there is an error among the findings, or with `--strict` a warning.
  static func run(_ invocation: Invocation) throws(RelayError) -> Int32 {
    let loaded = try invocation.loadConfiguration()
    let configuration = loaded.configuration
    var findings = [
      Finding(level: .ok, subject: "configuration", message: loaded.file ?? "environment and flags")
    ]
    findings += loaded.warnings.filter { !$0.isSecurity }.map {
      Finding(level: .warning, subject: "configuration", message: $0.description)
    }
    var keys: [String: KafkaInspector.Key] = [:]
    let facts = server(configuration, &findings)
    let topics = facts.map { postgres($0, configuration, keys: &keys, &findings) } ?? []
    kafka(configuration, topics: topics, keys: keys, &findings)
    findings += SecurityCheck.files(configuration, file: loaded.file, warnings: loaded.warnings)
    findings += SecurityCheck.findings(configuration, file: loaded.file, facts: facts)
    let isFault = { (finding: Finding) in
      finding.level == .error || finding.level == .warning && invocation.isSet("strict")
    }
    if invocation.isSet("json") {
      Terminal.printOutput(json(findings, isOK: !findings.contains(where: isFault)).pretty)
    } else {
      for finding in findings { Terminal.printOutput(line(finding)) }
    }
    return findings.contains(where: isFault) ? 1 : 0
  }

  // MARK: Postgres

  /// Nil where the server cannot be examined, which is then among the findings.
  private static func server(_ configuration: Configuration, _ findings: inout [Finding]) -> ServerFacts? {
    do throws(RelayError) {
      return try PostgresSource.inspect(
        settings: configuration.postgres, mappings: configuration.outboxes, stop: StopSignal())
    } catch {
      findings.append(
        Finding(level: .error, subject: "postgres", message: error.message, remedy: error.remedy))
      return nil
    }
  }

  /// - Returns: the topics that the outboxes would write to, as far as they can be told.
  private static func postgres(
    _ facts: ServerFacts, _ configuration: Configuration, keys: inout [String: KafkaInspector.Key],
    _ findings: inout [Finding]
  ) -> [String] {
    let settings = configuration.postgres
    findings.append(
      Finding(
        level: .ok, subject: "postgres",
        message: "connected to database \(facts.database), server "
          + "\(PostgresSource.version(facts.serverVersion)), timeline \(facts.timeline), WAL at \(facts.walEnd)"
      ))
    let decision = StartDecision(facts: facts, settings: settings, mappings: configuration.outboxes)
    for fault in decision.faults {
      // A relay that streams already is no fault, and neither is that this check finds its slot in use.
      let level: Finding.Level = fault.kind == .slotActive ? .ok : .error
      findings.append(
        Finding(
          level: level, subject: "postgres",
          message: level == .ok ? "slot \"\(settings.slot)\" is in use by a running relay" : fault.message,
          remedy: level == .ok ? nil : fault.remedy))
    }
    let earlier = try? PostgresSource.earlierRows(
      facts, settings: settings.on(facts.server), mappings: configuration.outboxes, stop: StopSignal())
    for finding in decision.findings + (earlier ?? []) {
      findings.append(
        Finding(
          level: finding.level, subject: "postgres", message: finding.message,
          remedy: finding.remedy))
    }
    if decision.faults.isEmpty { findings.append(start(decision, settings)) }
    return configuration.outboxes.flatMap {
      table($0, facts, settings: settings.on(facts.server), faults: decision.faults, keys: &keys, &findings)
    }
  }

  private static func start(_ decision: StartDecision, _ settings: PostgresSettings) -> Finding {
    let start: String
    switch try? decision.decide() {
    case .start(let lsn): start = "slot \"\(settings.slot)\" is ready; the relay would start at \(lsn)"
    default: start = "slot \"\(settings.slot)\" does not exist yet; the relay would create it"
    }
    return Finding(level: .ok, subject: "postgres", message: start)
  }

  private static func table(
    _ mapping: OutboxMapping, _ facts: ServerFacts, settings: PostgresSettings,
    faults: [RelayError], keys: inout [String: KafkaInspector.Key], _ findings: inout [Finding]
  ) -> [String] {
    // A table that does not exist is among the faults already, and so is one whose columns do not serve.
    guard let relation = facts.published(mapping) else { return [] }
    do throws(RelayError) {
      let result = try MappingCheck.inspect(
        mapping, relation: relation, database: facts.database)
      var topics = result.constantTopic.map { [$0] } ?? []
      if topics.isEmpty {
        topics = sampledTopics(mapping, facts, settings, &findings)
      }
      findings.append(
        Finding(
          level: .ok, subject: mapping.qualifiedName,
          message: "\(relation.columns.count) columns, \(mapping.contentMode.rawValue) mode, topic "
            + mapping.topic.description))
      findings += topics.compactMap { invalidTopic($0, mapping) }
      let key = key(of: mapping, result, facts.table(mapping.schema, mapping.table))
      for topic in topics { keys[topic] = max(keys[topic] ?? .always, key) }
      return topics.filter { mapping.allowedTopics.fault($0) == nil }
    } catch {
      if !faults.contains(where: { $0.message.hasSuffix(error.message) }) {
        findings.append(
          Finding(
            level: .error, subject: mapping.qualifiedName, message: error.message, remedy: error.remedy))
      }
      return []
    }
  }

  /// What cannot be examined is said.
  private static func sampledTopics(
    _ mapping: OutboxMapping, _ facts: ServerFacts, _ settings: PostgresSettings, _ findings: inout [Finding]
  ) -> [String] {
    do throws(RelayError) {
      return try TopicSample.read(mapping, facts: facts, settings: settings, stop: StopSignal())
    } catch {
      let isRow = error.kind == .rowRejected
      findings.append(
        Finding(
          level: isRow ? .error : .warning, subject: mapping.qualifiedName,
          message: isRow ? error.message : "the topics of its rows were not examined: \(error.message)",
          remedy: error.remedy))
      return []
    }
  }

  /// A row with a NULL in a column that the key requires is a fault of its own.
  private static func key(
    of mapping: OutboxMapping, _ result: MappingCheck.Result, _ table: TableFacts?
  ) -> KafkaInspector.Key {
    if mapping.key == nil { return .never }
    let optional = result.uses.filter { $0.part == "key" && !$0.isRequired }.map(\.column)
    let mayBeNull = table?.columns.contains { $0.isNullable && optional.contains($0.name) } == true
    return mayBeNull ? .notAlways : .always
  }

  /// The relay would stop at such a row, for the same reason.
  static func invalidTopic(_ topic: String, _ mapping: OutboxMapping) -> Finding? {
    guard let fault = mapping.allowedTopics.fault(topic) else { return nil }
    return Finding(
      level: .error, subject: mapping.qualifiedName,
      message:
        "has a row whose topic \(PrintableText.quoted(topic)) \(fault.reason); the relay would stop at such a "
        + "row (exit code \(RelayError.Kind.rowRejected.exitCode))",
      remedy: "Correct `topic` of the outbox in the configuration (it is \(mapping.topic)), or write other "
        + "values into the columns that it names.")
  }

  // MARK: Kafka

  private static func kafka(
    _ configuration: Configuration, topics: [String], keys: [String: KafkaInspector.Key],
    _ findings: inout [Finding]
  ) {
    let unique = Array(Set(topics)).sorted()
    let report = KafkaInspector.inspect(
      settings: configuration.kafka, topics: unique, keys: keys,
      comparesTails: configuration.relay.skipDelivered)
    for finding in report.findings {
      findings.append(
        Finding(
          level: finding.level, subject: finding.subject == "kafka" ? "kafka" : "topic \(finding.subject)",
          message: finding.message, remedy: finding.remedy))
    }
  }

  // MARK: Text

  private static func line(_ finding: Finding) -> String {
    let level = finding.level.rawValue
    let head = level + String(repeating: " ", count: 8 - level.utf8.count)
    var text =
      "\(head)\(PrintableText.escapingControls(finding.subject)): \(PrintableText.escapingControls(finding.message))"
    if let remedy = finding.remedy { text += "\n        remedy: \(PrintableText.escapingControls(remedy))" }
    return text + "\n"
  }

  private static func json(_ findings: [Finding], isOK: Bool) -> JSONValue {
    .object([
      .init("ok", .boolean(isOK)),
      .init(
        "findings",
        .array(
          findings.map {
            .object([
              .init("level", .text($0.level.rawValue)), .init("subject", .text($0.subject)),
              .init("message", .text($0.message)), .init("remedy", .optional($0.remedy)),
            ])
          })),
    ])
  }
}
