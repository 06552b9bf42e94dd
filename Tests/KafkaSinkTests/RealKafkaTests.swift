import CRdkafka
import Foundation
import RelayCore
import RelayTesting
import Synchronization
import Testing

@testable import KafkaSink

/// Brokers for the tests of this process.
enum RealKafka {
  /// TLS, SASL and ACLs; topics are created by themselves on the plain listener.
  static let secure = Result { try KafkaCluster(nodes: 1, secure: true, heap: "320m") }
  /// Topics are not created by themselves, and a batch is at most 20,000 bytes.
  static let strict = Result {
    try KafkaCluster(
      nodes: 1, settings: ["auto.create.topics.enable": "false", "message.max.bytes": "20000"], heap: "320m")
  }
}

@Suite(.serialized, .enabled(if: KafkaCluster.program != nil, "no real Kafka"))
struct RealKafkaTests {
  private func secure() throws -> KafkaCluster { try RealKafka.secure.get() }
  private func strict() throws -> KafkaCluster { try RealKafka.strict.get() }
  /// The plain listener of `secure`.
  private func plain() throws -> [String: String] { ["bootstrap.servers": try secure().bootstrap] }

  func tls(_ user: String? = "outboxd", password: String? = "outboxd-secret") throws -> [String: String] {
    [
      "bootstrap.servers": try secure().content("bootstrap-scram"),
      "security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN",
      "sasl.username": user, "sasl.password": password,
      "ssl.ca.location": try secure().path("tls/ca.crt"),
    ].compactMapValues { $0 }
  }

  // Whether its first record is held depends on how quick the broker is: `MockClusterTests` has both cases of a hold.
  @Test func anAutomaticallyCreatedTopicGetsAllItsRecordsInOrder() throws {
    let properties = try plain()
    let driver = try SinkDriver(properties)
    for number in 0..<500 {
      try driver.deliver(
        Content(
          topic: "auto.created", key: "k\(number % 11)", value: "\(number)", headers: [("ce_id", "\(number)")]
        ),
        tag: UInt64(number))
    }
    try driver.awaitSettled(500)
    #expect(driver.settled.allSatisfy { $0.error == nil })
    let records = try consume(properties, topics: ["auto.created"], count: 500)
    for (key, group) in Dictionary(grouping: records, by: \.key) {
      let numbers = group.compactMap { Int($0.header("ce_id") ?? "") }
      #expect(numbers == numbers.sorted())
      #expect(Set(group.map(\.partition)) == [JavaPartitioner.partition(key ?? [], of: 4)])
    }
  }

  @Test func nullAndEmptyStayApartInARealLog() throws {
    let properties = try plain()
    let driver = try SinkDriver(properties)
    let shapes: [(String?, String?)] = [("a", nil), ("a", ""), ("", "x"), (nil, "x")]
    for (tag, shape) in shapes.enumerated() {
      try driver.deliver(
        Content(topic: "shapes", key: shape.0, value: shape.1, headers: [("e", "")]), tag: UInt64(tag))
    }
    try driver.awaitSettled(shapes.count)
    let records = try consume(properties, topics: ["shapes"], count: shapes.count)
    func count(_ key: String?, _ value: String?) -> Int {
      records.filter { $0.key == key.map { Array($0.utf8) } && $0.value == value.map { Array($0.utf8) } }
        .count
    }
    for shape in shapes { #expect(count(shape.0, shape.1) == 1) }
    #expect(records.allSatisfy { $0.headers == [.init(name: "e", value: [])] })
  }

  @Test func aMissingTopicIsHeldUntilSomebodyCreatesIt() throws {
    let kafka = try strict()
    let driver = try SinkDriver(["bootstrap.servers": kafka.bootstrap])
    #expect(try driver.send(Content(topic: "by.hand"), tag: 1) == .held)
    for _ in 0..<5 { try driver.turn() }
    #expect(try driver.send(Content(topic: "by.hand"), tag: 1) == .held)
    #expect(driver.hold?.contains("\"by.hand\" does not exist") == true)
    try kafka.tool(["topics", "--create", "--topic", "by.hand", "--partitions", "2"])
    try driver.deliver(Content(topic: "by.hand"), tag: 1)
    try driver.awaitSettled(1)
    #expect(driver.hold == nil)
  }

  @Test func aTopicThatMayNotBeCreatedStaysMissingWhereOutboxdRefuses() throws {
    let driver = try SinkDriver(try plain(), missingTopic: .refuse)
    for _ in 0..<2 {
      let error = try #require(throws: RelayError.self) { try driver.send(Content(topic: "never"), tag: 1) }
      #expect(error.kind == .topicMissing)
    }
  }

  /// Sends all of it, as a relay does: with a new producer after a refusal that is remedied.
  private func sendAll(
    _ contents: [Content], _ properties: [String: String], _ limit: BatchLimit
  ) throws -> (rejected: [SinkDriver.Settled], producers: Int) {
    for producers in 1...30 {
      let driver = try SinkDriver(properties, batchLimit: limit)
      do {
        for (tag, content) in contents.enumerated() { try driver.deliver(content, tag: UInt64(tag)) }
        try driver.awaitSettled(contents.count)
      } catch let error as RelayError {
        let failures = driver.settled.filter { $0.error != nil }
        guard failures.first?.error?.isRemedied == true else { return (failures, producers) }
        #expect(error.kind == .sinkFailed)
        continue
      }
      return (driver.settled.filter { $0.error != nil }, producers)
    }
    throw TimedOut(description: "30 producers were not enough")
  }

  @Test func `a topic that takes less than a batch gets its records with the second producer`() throws {
    let kafka = try strict()
    try kafka.tool(["topics", "--create", "--topic", "small", "--partitions", "1"])
    let properties = ["bootstrap.servers": kafka.bootstrap]
    let limit = BatchLimit()
    // Random text, so that compression does not help.
    let contents = (0..<1000).map { number in
      Content(
        topic: "small", value: (0..<50).map { _ in String(UInt64.random(in: 0 ... .max)) }.joined(),
        headers: [("n", "\(number)")])
    }
    let (rejected, producers) = try sendAll(contents, properties, limit)
    #expect(rejected.isEmpty)
    #expect(producers == 2)
    #expect(limit.bytes == 20_000)
  }

  @Test func `a topic's limit that outboxd may not read is found by halving`() throws {
    let kafka = try secure()
    let topic = "halved"
    try kafka.tool([
      "topics", "--create", "--topic", topic, "--partitions", "1", "--config", "max.message.bytes=20000",
    ])
    try kafka.tool([
      "acls", "--add", "--allow-principal", "User:outboxd", "--operation", "Write", "--operation", "Describe",
      "--topic", topic,
    ])
    // Other tests begin without any right to write.
    defer { _ = try? kafka.tool(["acls", "--remove", "--force", "--topic", topic]) }
    let limit = BatchLimit()
    let contents = (0..<1000).map { _ in
      Content(topic: topic, value: (0..<50).map { _ in String(UInt64.random(in: 0 ... .max)) }.joined())
    }
    // Kafka counts compressed bytes, and even digits by chance may be compressed.
    var properties = try tls()
    properties["compression.codec"] = "none"
    let (rejected, producers) = try sendAll(contents, properties, limit)
    #expect(rejected.isEmpty)
    #expect((3...8).contains(producers), "\(producers)")
    #expect((5_000...20_000).contains(limit.bytes ?? 0), "\(limit.bytes ?? 0)")
  }

  @Test func `a timestamp out of the topic's limits rejects no record`() throws {
    let kafka = try strict()
    let properties = ["bootstrap.servers": kafka.bootstrap, "linger.ms": "50"]
    let limit = "message.timestamp.before.max.ms"
    try kafka.tool(["topics", "--create", "--topic", "dated", "--partitions", "1", "--config", "\(limit)=1"])
    let early = try SinkDriver(properties)
    try early.deliver(Content(topic: "dated"), tag: 1)
    #expect(try early.awaitFailure().kind == .sinkFailed)
    let error = try #require(early.settled.first?.error)
    #expect(error.kind == .sinkFailed && error.code == "INVALID_TIMESTAMP")
    #expect(error.remedy?.contains(limit) == true)
    try kafka.tool([
      "configs", "--alter", "--entity-type", "topics", "--entity-name", "dated", "--add-config",
      "\(limit)=3600000",
    ])
    let later = try SinkDriver(properties)
    try later.deliver(Content(topic: "dated"), tag: 1)
    try later.awaitSettled(1)
    #expect(later.settled[0].error == nil)
  }

  @Test func `a lone record that the broker finds too large is told from its neighbours`() throws {
    let kafka = try strict()
    try kafka.tool(["topics", "--create", "--topic", "small.lone", "--partitions", "1"])
    let properties = ["bootstrap.servers": kafka.bootstrap, "linger.ms": "50", "compression.type": "none"]
    var contents = (0..<100).map { _ in Content(topic: "small.lone") }
    contents[50].value = [UInt8](repeating: 7, count: 30_000)
    let (rejected, _) = try sendAll(contents, properties, BatchLimit())
    let culprit = try #require(rejected.first)
    #expect(culprit.tag == 50)
    #expect(culprit.error?.kind == .recordRejected)
    #expect(culprit.value?.count == 30_000)
    #expect(!culprit.mayBeNeighbour)
    #expect(culprit.error?.remedy?.contains("max.message.bytes") == true)
  }

  @Test func aBrokerThatStopsAndStartsLosesNothing() throws {
    let kafka = try strict()
    try kafka.tool(["topics", "--create", "--topic", "restart", "--partitions", "1"])
    let driver = try SinkDriver(["bootstrap.servers": kafka.bootstrap])
    for tag in 0..<50 { try driver.deliver(Content(topic: "restart", value: "\(tag)"), tag: UInt64(tag)) }
    try driver.awaitSettled(50)
    try kafka.control("stop")
    for tag in 50..<100 { try driver.deliver(Content(topic: "restart", value: "\(tag)"), tag: UInt64(tag)) }
    try driver.wait("the hold", seconds: 15) { driver.hold != nil }
    try kafka.start()
    try driver.awaitSettled(100, seconds: 30)
    #expect(driver.settled.allSatisfy { $0.error == nil })
    try driver.wait("brokers up") { driver.metrics.kafkaBrokersUp.load(ordering: .relaxed) == 1 }
    let records = try consume(["bootstrap.servers": kafka.bootstrap], topics: ["restart"], count: 100)
    #expect(records.map { Int(String(decoding: $0.value ?? [], as: UTF8.self)) } == Array(0..<100))
  }

  @Test func plainOverTLSIsBoundByItsACLs() throws {
    let kafka = try secure()
    let topic = Content(topic: "outbox.allowed")
    try kafka.tool(["topics", "--create", "--topic", topic.topic, "--partitions", "1"])
    let properties = try tls()
    // Kafka gives a producer id only to those who may write somewhere.
    let nobody = try SinkDriver(properties).awaitFailure()
    #expect(nobody.kind == .sinkDenied)
    #expect(nobody.code == "CLUSTER_AUTHORIZATION_FAILED")
    try kafka.tool([
      "acls", "--add", "--allow-principal", "User:outboxd", "--operation", "Write", "--topic", "outbox.other",
    ])
    let denied = try SinkDriver(properties)
    #expect(try denied.send(topic, tag: 1) == .held)
    #expect(denied.hold?.contains("outboxd may not write to it") == true)
    #expect(denied.hold?.contains("kafka-acls.sh") == true)
    try kafka.tool([
      "acls", "--add", "--allow-principal", "User:outboxd", "--operation", "Write", "--operation", "Describe",
      "--topic", topic.topic,
    ])
    try denied.deliver(topic, tag: 1)
    try denied.awaitSettled(1)
    #expect(denied.settled[0].error == nil)
    var settings = KafkaSettings()
    settings.properties = properties
    let report = KafkaInspector.inspect(settings: settings, topics: [topic.topic, "secret.topic"])
    #expect(report.topics.map(\.name) == [topic.topic])
    #expect(report.findings.contains { $0.subject == "secret.topic" && $0.level == .error })
  }

  @Test func aWrongPasswordIsDeniedAndNotPrinted() throws {
    let driver = try SinkDriver(try tls("outboxd", password: "falsch-geheim"))
    let error = try driver.awaitFailure()
    #expect(error.kind == .sinkDenied)
    #expect(error.message.contains("Invalid username or password"))
    #expect(!error.description.contains("falsch-geheim"))
  }

  @Test func scramFailsForTheReasonThatItHas() throws {
    let properties = try tls().merging(["sasl.mechanism": "SCRAM-SHA-256"]) { $1 }
    let driver = try SinkDriver(properties)
    guard rd_kafka_version() < 0x0206_01ff else { return }
    let error = try driver.awaitFailure()
    #expect(error.kind == .sinkDenied)
    #expect(error.message.contains("CVE-2024-56128"))
  }

  @Test func mutualTLSNeedsTheClientsCertificate() throws {
    let kafka = try secure()
    let anonymous = [
      "bootstrap.servers": try kafka.content("bootstrap-mutual"), "security.protocol": "SSL",
      "ssl.ca.location": kafka.path("tls/ca.crt"),
    ]
    let error = try SinkDriver(anonymous).awaitFailure()
    #expect(error.kind == .sinkDenied)
    #expect(error.remedy?.contains("ssl.certificate.location") == true)
    try kafka.tool([
      "acls", "--add", "--allow-principal", "User:CN=client", "--operation", "Write", "--operation", "Create",
      "--operation", "Describe", "--topic", "mutual",
    ])
    let driver = try SinkDriver(
      anonymous.merging([
        "ssl.certificate.location": kafka.path("tls/client.crt"),
        "ssl.key.location": kafka.path("tls/client.key"),
      ]) { $1 })
    try driver.deliver(Content(topic: "mutual"), tag: 1)
    try driver.awaitSettled(1)
    #expect(driver.settled[0].error == nil)
  }

  @Test func aCertificateThatIsNotAcceptedSaysWhy() throws {
    let servers = try secure().content("bootstrap-scram")
    var properties = try tls()
    properties["ssl.ca.location"] = nil
    let unknown = try SinkDriver(properties).awaitFailure()
    #expect(unknown.kind == .sinkDenied)
    #expect(unknown.message.contains("signed by a CA that ssl.ca.location does not hold"))
    // The same address by a name that is not in the certificate.
    properties = try tls()
    properties["bootstrap.servers"] = servers.replacingOccurrences(of: "127.0.0.1", with: "2130706433")
    let mismatch = try SinkDriver(properties).awaitFailure()
    #expect(mismatch.message.contains("for another host name"))
  }

  @Test func plainTextToATLSPortIsAHoldThatNamesTheCause() throws {
    let driver = try SinkDriver(["bootstrap.servers": try secure().content("bootstrap-mutual")])
    #expect(try driver.send(Content(), tag: 1) == .held)
    try driver.wait("the reason") {
      _ = try? driver.send(Content(), tag: 1)
      return driver.hold?.contains("security.protocol") == true
    }
  }
}
