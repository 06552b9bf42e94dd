import CRdkafka
import Foundation
import RelayCore
import Testing

@testable import KafkaSink

@Suite struct KafkaPropertiesTests {
  func faults(_ properties: [String: String], files: [String: String] = [:]) -> [String: String] {
    var settings = KafkaSettings()
    settings.properties = ["bootstrap.servers": "127.0.0.1:1"].merging(properties) { $1 }
    settings.propertyFiles = files
    return Dictionary(
      KafkaProperties.faults(settings).map { ($0.property, $0.reason) }, uniquingKeysWith: { old, _ in old })
  }

  @Test(
    "what the promises rest on is refused, by every name",
    arguments: [
      ("acks", "1"), ("request.required.acks", "0"), ("enable.idempotence", "false"),
      ("enable.idempotence", "F"), ("message.timeout.ms", "300000"), ("delivery.timeout.ms", "1"),
      ("max.in.flight", "5"), ("max.in.flight.requests.per.connection", "100"), ("retries", "5"),
      ("message.send.max.retries", "0"), ("enable.gapless.guarantee", "false"), ("partitioner", "consistent"),
      ("transactional.id", "x"), ("queuing.strategy", "lifo"), ("log.queue", "false"), ("dr_cb", "x"),
      ("dr_msg_cb", "x"), ("group.id", "g"), ("auto.offset.reset", "earliest"), ("enabled_events", "1"),
      ("delivery.report.only.error", "true"), ("test.mock.num.brokers", "1"),
      ("enable.sasl.oauthbearer.unsecure.jwt", "true"), ("statistics.interval.ms", "2000"),
      ("client.id", String(repeating: "x", count: 201)), ("queue.buffering.max.kbytes", "900"),
      ("linger.ms", "soon"), ("security.protocol", "tls"),
    ])
  func refused(name: String, value: String) {
    let reasons = faults([name: value])
    #expect(reasons.keys.sorted() == [name])
    #expect(reasons[name]?.isEmpty == false)
  }

  @Test(
    "what outboxd needs may also be said",
    arguments: [
      ("acks", "all"), ("acks", "-1"), ("enable.idempotence", "true"), ("message.timeout.ms", "0"),
      ("max.in.flight", "1"), ("partitioner", "murmur2"), ("linger.ms", "5"), ("compression.type", "zstd"),
      ("client.id", "orders"), ("queue.buffering.max.kbytes", "977"), ("message.max.bytes", "900000000"),
      ("debug", "broker"), ("enable.gapless.guarantee", "true"), ("queuing.strategy", "fifo"),
      ("statistics.interval.ms", "0"),
    ])
  func allowed(name: String, value: String) {
    #expect(faults([name: value]).isEmpty)
  }

  @Test func anUnknownNameComesWithTheNearestOne() {
    #expect(
      faults(["bootstrap.server": "x"])["bootstrap.server"]?.contains("did you mean bootstrap.servers?")
        == true)
    #expect(faults(["sasl.mechansim": "PLAIN"])["sasl.mechansim"]?.contains("sasl.mechanism?") == true)
    #expect(faults(["entirely.else": "x"])["entirely.else"]?.contains("did you mean") == false)
  }

  @Test func missingServersAreAFault() {
    #expect(KafkaProperties.faults(KafkaSettings()).map(\.property) == ["bootstrap.servers"])
  }

  @Test func anAliasGivenTwiceIsAFault() {
    #expect(faults(["linger.ms": "1", "queue.buffering.max.ms": "2"])["queue.buffering.max.ms"] != nil)
  }

  @Test func contradictionsAndMissingFilesAreFoundWithoutAConnection() {
    #expect(
      faults(["security.protocol": "SSL", "ssl.ca.location": "/nowhere/ca.crt"])["ssl.ca.location"] != nil)
    #expect(
      faults(["sasl.mechanism": "OAUTHBEARER", "security.protocol": "SASL_SSL"])["sasl.oauthbearer.method"]
        != nil)
    let oidc = faults([
      "sasl.mechanism": "OAUTHBEARER", "security.protocol": "SASL_SSL", "sasl.oauthbearer.method": "oidc",
      "sasl.oauthbearer.client.id": "outboxd", "sasl.oauthbearer.client.secret": "secret",
      "sasl.oauthbearer.token.endpoint.url": "https://127.0.0.1:1/token",
    ])
    #expect(oidc.isEmpty == KafkaProperties.features.contains("oidc"))
    #expect(faults(["sasl.mechanism": "NOPE", "security.protocol": "SASL_SSL"])["sasl.mechanism"] != nil)
  }

  @Test func aFileHoldsASecretLessItsNewline() throws {
    let path = NSTemporaryDirectory() + "outboxd-secret-\(UUID().uuidString)"
    try Data("geheim\r\n".utf8).write(to: URL(fileURLWithPath: path))
    defer { try? FileManager.default.removeItem(atPath: path) }
    #expect(try KafkaProperties.secret(path) == "geheim")
    #expect(faults([:], files: ["sasl.password": path]).isEmpty)
    let twice = faults(["sasl.password": "x"], files: ["sasl.password": path])["sasl.password"]
    #expect(twice?.contains("twice") == true)
    let missing = faults([:], files: ["sasl.password": path + "-gone"])["sasl.password"]
    #expect(missing?.contains("No such file") == true)
  }

  @Test func aValueFromAFileIsCheckedAndNeverPrinted() throws {
    let path = NSTemporaryDirectory() + "outboxd-secret-\(UUID().uuidString)"
    try Data("6".utf8).write(to: URL(fileURLWithPath: path))
    defer { try? FileManager.default.removeItem(atPath: path) }
    #expect(faults([:], files: ["max.in.flight": path])["max.in.flight"] != nil)
  }

  @Test func theDefaultsAreTakenByLibrdkafka() throws {
    var settings = KafkaSettings()
    settings.properties = ["bootstrap.servers": "127.0.0.1:1", "message.max.bytes": "100000000"]
    let configuration = try KafkaProperties.configuration(settings)
    defer { rd_kafka_conf_destroy(configuration) }
    func value(_ name: String) -> String? { KafkaProperties.value(of: name, in: configuration) }
    #expect(value("enable.idempotence") == "true")
    #expect(value("acks") == "-1")
    #expect(value("enable.gapless.guarantee") == "true")
    #expect(value("message.timeout.ms") == "0")
    #expect(value("partitioner") == "murmur2_random")
    #expect(value("linger.ms") == "3")
    #expect(value("queue.buffering.max.kbytes") == "97657")
  }

  @Test func scramWithAnOldLibraryIsNamedForWhatItIs() {
    let reason = "invalid credentials with SASL mechanism SCRAM-SHA-256"
    let old = KafkaFailure.denied(
      RD_KAFKA_RESP_ERR__AUTHENTICATION, reason: reason, mechanism: "SCRAM-SHA-256", certificate: nil,
      version: 0x0200_02ff)
    #expect(old.message.contains("CVE-2024-56128"))
    let new = KafkaFailure.denied(
      RD_KAFKA_RESP_ERR__AUTHENTICATION, reason: reason, mechanism: "SCRAM-SHA-256", certificate: nil,
      version: 0x0206_01ff)
    #expect(!new.message.contains("CVE-2024-56128"))
  }

  @Test func remediesNameTheFirstBroker() {
    func broker(_ servers: String?) -> String {
      var settings = KafkaSettings()
      settings.properties["bootstrap.servers"] = servers
      return settings.commandBroker
    }
    #expect(broker("SASL_SSL://kafka-1.example:9092, kafka-2:9092") == "kafka-1.example:9092")
    #expect(broker("[::1]:9092") == "[::1]:9092")
    #expect(broker(nil) == "BROKER")
    #expect(broker("a;rm -r x:1") == "BROKER")
    #expect(
      KafkaFailure.creation(of: "t", broker: "k:1").hasPrefix(
        "kafka-topics.sh --bootstrap-server k:1 --create"))
    #expect(
      KafkaFailure.writeGrant("t", broker: "k:1").contains("kafka-acls.sh --bootstrap-server k:1 --add"))
    let tooLarge = KafkaFailure.record(
      RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, topic: "t", partition: 0, sizes: RecordSizes(), broker: "k:1")
    #expect(tooLarge.remedy?.contains("kafka-configs.sh --bootstrap-server k:1 --alter") == true)
  }

  @Test func aRefusalIsNotLoggedTwice() {
    #expect(
      KafkaHealth.isRefusal(
        logLine: "SASL authentication error: Authentication failed (after 5ms in state AUTH_REQ)"))
    #expect(!KafkaHealth.isRefusal(logLine: "Connect to ipv4#127.0.0.1:1 failed: Connection refused"))
  }

  @Test func aMomentWithoutConnectionIsNoOutage() {
    var health = KafkaHealth(metrics: RelayMetrics(), mechanism: "")
    let start = MonotonicTime.now()
    func at(_ milliseconds: Int) -> MonotonicTime { start.advanced(milliseconds: milliseconds) }
    health.note(connected: 2, now: start)
    health.note(connected: 0, now: at(100))
    health.note(connected: 0, now: at(2099))
    #expect(health.brokersUp == 2)
    health.note(connected: 1, now: at(2100))
    health.note(connected: 0, now: at(2200))
    health.note(connected: 0, now: at(4199))
    #expect(health.brokersUp == 1)
    health.note(connected: 0, now: at(4200))
    #expect(health.brokersUp == 0)
    health.note(connected: 1, now: at(4201))
    #expect(health.brokersUp == 1)
  }

  @Test func aRefusalWhileABrokerIsConnectedIsForgotten() {
    var health = KafkaHealth(metrics: RelayMetrics(), mechanism: "PLAIN")
    let start = MonotonicTime.now()
    health.note(connected: 1, now: start)
    health.note(RD_KAFKA_RESP_ERR__AUTHENTICATION, reason: "no", now: start)
    health.note(connected: 1, now: start)
    let later = start.advanced(milliseconds: 60_000)
    health.note(connected: 0, now: later)
    health.note(connected: 0, now: later.advanced(milliseconds: 2_000))
    #expect(health.brokersUp == 0 && health.refusal(now: later.advanced(milliseconds: 2_000)) == nil)
  }
}
