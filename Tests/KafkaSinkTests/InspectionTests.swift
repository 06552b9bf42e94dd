import CRdkafka
import Foundation
import RelayCore
import RelayTesting
import Testing

@testable import KafkaSink

@Suite(.serialized) struct InspectionTests {
  private func findings(_ report: KafkaReport, _ level: Finding.Level, _ subject: String = "kafka")
    -> [String]
  {
    report.findings.filter { $0.level == level && $0.subject == subject }.map(\.message)
  }

  @Test func `a producer id is asked for, as the relay asks for it`() throws {
    let broker = try MockBroker()
    var settings = KafkaSettings()
    settings.properties = ["bootstrap.servers": broker.bootstrapServers]
    let report = KafkaInspector.inspect(settings: settings, topics: [], milliseconds: 3000)
    #expect(findings(report, .ok).contains("gives outboxd a producer id"))
  }

  @Test(.enabled(if: KafkaCluster.program != nil, "no real Kafka"))
  func `what only the first event or an unclean stop would show is said beforehand`() throws {
    let kafka = try RealKafka.secure.get()
    let topic = "inspected"
    try kafka.tool([
      "topics", "--create", "--topic", topic, "--partitions", "1", "--config", "cleanup.policy=compact",
      "--config",
      "max.message.bytes=20000",
    ])
    func grant(_ operations: String...) throws {
      try kafka.tool(
        ["acls", "--add", "--allow-principal", "User:reader", "--topic", topic]
          + operations.flatMap { ["--operation", $0] })
    }
    defer { _ = try? kafka.tool(["acls", "--remove", "--force", "--topic", topic]) }
    var settings = KafkaSettings()
    settings.properties = [
      "bootstrap.servers": try kafka.content("bootstrap-scram"), "security.protocol": "SASL_SSL",
      "sasl.mechanism": "PLAIN", "sasl.username": "reader", "sasl.password": "reader-secret",
      "ssl.ca.location": kafka.path("tls/ca.crt"),
    ]
    func inspect(_ key: KafkaInspector.Key) -> KafkaReport {
      KafkaInspector.inspect(settings: settings, topics: [topic], keys: [topic: key], comparesTails: true)
    }
    try grant("Describe")
    var report = inspect(.always)
    #expect(findings(report, .error).first?.contains("no producer id") == true, "\(report.findings)")
    #expect(
      report.findings.first { $0.level == .error }?.remedy?.contains("--operation IdempotentWrite") == true)
    try grant("Write", "DescribeConfigs")
    report = inspect(.never)
    #expect(findings(report, .ok).contains("gives outboxd a producer id"), "\(report.findings)")
    #expect(
      findings(report, .notice).contains {
        $0.contains("cannot check in advance whether outboxd may write to a topic")
      })
    #expect(findings(report, .error, topic).first?.contains("compacted") == true, "\(report.findings)")
    let warnings = findings(report, .warning, topic)
    #expect(warnings.contains { $0.contains("may not read") })
    #expect(warnings.contains { $0.contains("batches of 20000 bytes") })
    let remedies = report.findings.filter { $0.subject == topic }.compactMap(\.remedy)
    #expect(remedies.contains { $0.contains("--operation Read") })
    #expect(remedies.contains { $0.hasPrefix("Set batch.size under kafka.properties to 20000") })
    try grant("Read")
    settings.properties["batch.size"] = "20000"
    settings.properties["message.max.bytes"] = "20000"
    report = inspect(.notAlways)
    #expect(findings(report, .warning, topic).count == 1, "\(report.findings)")
    #expect(findings(report, .warning, topic).first?.contains("where the key's column is NULL") == true)
    #expect(findings(inspect(.always), .warning, topic).isEmpty)
  }
}
