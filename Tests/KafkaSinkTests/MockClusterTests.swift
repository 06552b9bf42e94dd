import CRdkafka
import Foundation
import RelayCore
import RelayTesting
import Synchronization
import Testing

@testable import KafkaSink

@Suite(.serialized) struct MockClusterTests {
  let broker: MockBroker
  var properties: [String: String] { ["bootstrap.servers": broker.bootstrapServers] }

  init() throws { broker = try MockBroker() }

  @Test func recordsOfOneKeyArriveInTheOrderTheyWereSent() throws {
    let driver = try SinkDriver(properties)
    for number in 0..<2000 {
      try driver.deliver(Content(key: "key\(number % 7)", value: "\(number)"), tag: UInt64(number))
    }
    try driver.awaitSettled(2000)
    #expect(driver.settled.allSatisfy { $0.error == nil })
    #expect(Set(driver.settled.map(\.tag)).count == 2000)
    var last: [[UInt8]: Int] = [:]
    for record in try consume(properties, topics: ["outbox.event.order"], count: 2000) {
      let key = try #require(record.key)
      let number = try #require(Int(String(decoding: record.value ?? [], as: UTF8.self)))
      #expect(last[key] ?? -1 < number)
      last[key] = number
    }
    #expect(last.count == 7)
  }

  @Test func aBrokerThatTakesLongToAnswerIsHeardAtLast() throws {
    try broker.createTopic("slow", partitions: 1)
    let driver = try SinkDriver(properties)
    broker.setRoundTrip(milliseconds: 800)
    try driver.deliver(Content(topic: "slow"), tag: 1, seconds: 30)
    try driver.awaitSettled(1)
    #expect(driver.settled[0].error == nil)
    var settings = KafkaSettings()
    settings.properties = properties
    let tails = PartitionTails(
      settings: settings, after: .zero, through: LSN(1), patience: 5000, metrics: RelayMetrics(),
      log: Log(level: .error))
    func ask() -> Recognition {
      Content(topic: "slow").lend { tails.recognize($0, EventSequence(commitLSN: LSN(1), index: 0)) }
    }
    let deadline = MonotonicTime.now().advanced(milliseconds: 30_000)
    var answer = ask()
    while case .wait = answer, MonotonicTime.now() < deadline { answer = ask() }
    #expect(answer == .absent)
  }

  @Test func nullAndEmptyStayApartInKeyAndValue() throws {
    let driver = try SinkDriver(properties)
    try broker.createTopic("t", partitions: 1)
    let shapes: [(String?, String?)] = [(nil, nil), (nil, ""), ("", nil), ("", ""), ("k", "v")]
    for (tag, shape) in shapes.enumerated() {
      try driver.deliver(Content(topic: "t", key: shape.0, value: shape.1), tag: UInt64(tag))
    }
    try driver.awaitSettled(shapes.count)
    let records = try consume(properties, topics: ["t"], count: shapes.count)
    #expect(records.map(\.key) == shapes.map { $0.0.map { Array($0.utf8) } })
    #expect(records.map(\.value) == shapes.map { $0.1.map { Array($0.utf8) } })
  }

  @Test func headersKeepTheirOrderDuplicatesAndEmptyValues() throws {
    let driver = try SinkDriver(properties)
    let headers = [("ce_id", "1"), ("x", "a"), ("x", "b"), ("empty", ""), ("ce_type", "a\u{0}b\n")]
    try driver.deliver(Content(headers: headers), tag: 9)
    try driver.awaitSettled(1)
    #expect(driver.settled[0].tag == 9)
    let record = try #require(try consume(properties, topics: ["outbox.event.order"], count: 1).first)
    #expect(record.headers.map(\.name) == headers.map(\.0))
    #expect(record.headers.map(\.value) == headers.map { Array($0.1.utf8) })
    #expect(record.header("x") == "a")
  }

  @Test func keysGoToThePartitionsThatJavaChooses() throws {
    // The vectors of Kafka's own UtilsTest.
    let known: [(String, Int32)] = [
      ("21", -973_932_308), ("foobar", -790_332_482), ("a-little-bit-long-string", -985_981_536),
      ("a-little-bit-longer-string", -1_486_304_829),
      ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971), ("abc", 479_470_107),
    ]
    for (key, hash) in known { #expect(JavaPartitioner.murmur2(Array(key.utf8)) == hash) }
    try broker.createTopic("p", partitions: 7)
    let driver = try SinkDriver(properties)
    let keys = known.map(\.0) + ["", "ä", "\u{0}"] + (0..<100).map { "order-\($0)" }
    for (tag, key) in keys.enumerated() {
      try driver.deliver(Content(topic: "p", key: key), tag: UInt64(tag))
    }
    try driver.awaitSettled(keys.count)
    for record in try consume(properties, topics: ["p"], count: keys.count) {
      #expect(record.partition == JavaPartitioner.partition(record.key ?? [], of: 7))
    }
  }

  @Test func aFullQueueSaysSoAndTakesRecordsAgainAfterADrain() throws {
    let driver = try SinkDriver(properties.merging(["queue.buffering.max.messages": "10"]) { $1 })
    try driver.deliver(Content(), tag: 0)
    try driver.awaitSettled(1)
    broker.setRoundTrip(milliseconds: 300)
    var accepted = 0
    while try driver.send(Content(), tag: UInt64(accepted + 1)) == .accepted { accepted += 1 }
    #expect(accepted == 10)
    broker.setRoundTrip(milliseconds: 0)
    for tag in 11...30 { try driver.deliver(Content(), tag: UInt64(tag)) }
    try driver.awaitSettled(31)
    #expect(Set(driver.settled.map(\.tag)) == Set(0...30))
  }

  @Test func aRecordOverTheLimitIsRejectedAtOnceWithItsSizesAndWhatToDo() throws {
    let driver = try SinkDriver(properties.merging(["message.max.bytes": "5000"]) { $1 })
    let large = Content(value: String(repeating: "x", count: 6000))
    let error = try #require(throws: RelayError.self) { try driver.deliver(large, tag: 1) }
    #expect(error.kind == .recordRejected)
    #expect(error.message.contains("value 6000 bytes"))
    #expect(error.remedy?.contains("message.max.bytes") == true)
    try driver.deliver(Content(), tag: 2)
    try driver.awaitSettled(1)
    #expect(driver.settled.map(\.tag) == [2])
  }

  @Test func anUnreachableBrokerIsAHoldAndEndsWhenItIsBack() throws {
    let driver = try SinkDriver(properties)
    try driver.deliver(Content(), tag: 0)
    try driver.awaitSettled(1)
    #expect(driver.metrics.kafkaBrokersUp.load(ordering: .relaxed) == 1)
    broker.takeDown()
    for tag in 1...5 { try driver.deliver(Content(), tag: UInt64(tag)) }
    try driver.wait("the hold", seconds: 10) { driver.hold != nil }
    #expect(driver.metrics.kafkaBrokersUp.load(ordering: .relaxed) == 0)
    #expect(driver.hold?.contains("cannot reach any Kafka broker") == true)
    broker.setUp()
    try driver.awaitSettled(6)
    try driver.wait("brokers up") { driver.metrics.kafkaBrokersUp.load(ordering: .relaxed) == 1 }
    #expect(driver.hold == nil)
    #expect(driver.settled.map(\.tag) == [0, 1, 2, 3, 4, 5])
  }

  @Test func `without any record it is known that Kafka went away and that it is back`() throws {
    let driver = try SinkDriver(properties)
    func up() -> Int { driver.metrics.kafkaBrokersUp.load(ordering: .relaxed) }
    try driver.wait("the connection", seconds: 10) { up() == 1 }
    broker.takeDown()
    try driver.wait("the outage", seconds: 10) { up() == 0 }
    #expect(driver.hold?.contains("cannot reach any Kafka broker") == true)
    broker.setUp()
    try driver.wait("its end", seconds: 10) { up() == 1 }
    #expect(driver.hold == nil)
  }

  @Test func everyConnectedBrokerIsCounted() throws {
    let cluster = try MockBroker(brokers: 3)
    try cluster.createTopic("t", partitions: 12)
    let driver = try SinkDriver(["bootstrap.servers": cluster.bootstrapServers])
    for number in 0..<100 {
      try driver.deliver(Content(topic: "t", key: "\(number)"), tag: UInt64(number))
    }
    try driver.awaitSettled(100)
    try driver.wait("all brokers") { driver.metrics.kafkaBrokersUp.load(ordering: .relaxed) == 3 }
  }

  @Test func aTopicSeenFirstWhileKafkaIsAwayIsHeldWithTheReason() throws {
    broker.takeDown()
    let driver = try SinkDriver(properties)
    #expect(driver.metrics.kafkaBrokersUp.load(ordering: .relaxed) == 0)
    #expect(try driver.send(Content(), tag: 1) == .held)
    #expect(driver.hold?.contains("cannot reach any Kafka broker") == true)
    let start = Date()
    #expect(try driver.send(Content(), tag: 1) == .held)
    #expect(Date().timeIntervalSince(start) < 0.1)
    broker.setUp()
    try driver.deliver(Content(), tag: 1)
    try driver.awaitSettled(1)
    #expect(driver.hold == nil)
  }

  @Test func aMissingTopicIsHeldUntilItIsThere() throws {
    let driver = try SinkDriver(properties)
    broker.setTopicError("gone", code: RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART.rawValue)
    let start = MonotonicTime.now()
    #expect(try driver.send(Content(topic: "gone"), tag: 1) == .held)
    #expect(driver.hold?.contains("topic \"gone\" does not exist") == true)
    #expect(try #require(driver.wait).until >= start.advanced(milliseconds: 100))
    // Other topics go on meanwhile.
    try driver.deliver(Content(topic: "here"), tag: 2)
    try driver.awaitSettled(1)
    broker.setTopicError("gone", code: 0)
    try driver.deliver(Content(topic: "gone"), tag: 1)
    try driver.awaitSettled(2)
    #expect(driver.settled.map(\.tag) == [2, 1])
    #expect(driver.hold == nil)
  }

  @Test func aTopicThatIsBeingCreatedIsHeldUntilItHasALeader() throws {
    let driver = try SinkDriver(properties)
    broker.setTopicError("young", code: RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE.rawValue)
    let start = MonotonicTime.now()
    #expect(try driver.send(Content(topic: "young"), tag: 1) == .held)
    #expect(driver.hold?.contains("topic \"young\" has no leader yet") == true)
    #expect(try #require(driver.wait).until >= start.advanced(milliseconds: 100))
    broker.setTopicError("young", code: 0)
    try driver.deliver(Content(topic: "young"), tag: 1)
    try driver.awaitSettled(1)
    #expect(driver.settled.map(\.tag) == [1])
    #expect(driver.hold == nil)
  }

  @Test func aMissingTopicHaltsWhereTheConfigurationSaysSo() throws {
    let driver = try SinkDriver(properties, missingTopic: .refuse)
    broker.setTopicError("gone", code: RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART.rawValue)
    let error = try #require(throws: RelayError.self) { try driver.send(Content(topic: "gone"), tag: 1) }
    #expect(error.kind == .topicMissing)
    let command = "kafka-topics.sh --bootstrap-server \(broker.bootstrapServers) --create --topic gone"
    #expect(error.remedy?.contains(command) == true, "\(error.remedy ?? "none")")
  }

  @Test func headersCountForWhatMayBeInFlight() throws {
    var properties = properties
    properties["queue.buffering.max.kbytes"] = "64"
    properties["message.max.bytes"] = "60000"
    let driver = try SinkDriver(properties)
    try driver.deliver(Content(), tag: 0)
    try driver.awaitSettled(1)
    let large = Content(value: "", headers: [("h", String(repeating: "x", count: 10_000))])
    for round: UInt64 in 0..<3 {
      // Nothing is drained meanwhile: six of about 10,400 bytes are the most that 64 KiB hold.
      for tag in 1...6 { #expect(try driver.send(large, tag: round * 6 + UInt64(tag)) == .accepted) }
      #expect(try driver.send(large, tag: 99) == .full)
      try driver.awaitSettled(1 + (Int(round) + 1) * 6)
    }
    #expect(driver.settled.allSatisfy { $0.error == nil })
  }

  @Test func aRefusedRecordIsToldWithItsContentBeforeTheProducerIsGivenUp() throws {
    let driver = try SinkDriver(properties)
    try driver.deliver(Content(), tag: 0)
    try driver.awaitSettled(1)
    broker.failRequests(.produce, codes: [RD_KAFKA_RESP_ERR_INVALID_RECORD.rawValue])
    try driver.deliver(Content(key: "bad", value: "", headers: [("ce_id", "7")]), tag: 7)
    let error = try driver.awaitFailure()
    #expect(error.kind == .sinkFailed)
    #expect(error.message.contains("gap-less"))
    let failed = try #require(driver.settled.last)
    #expect(failed.tag == 7)
    #expect(failed.error?.kind == .recordRejected)
    #expect(failed.error?.code == "INVALID_RECORD")
    // It was alone in its batch.
    #expect(!failed.mayBeNeighbour)
    #expect(failed.topic == "outbox.event.order")
    #expect(failed.key == Array("bad".utf8))
    #expect(failed.value == [])
    #expect(failed.headers == ["ce_id=7"])
    // What comes after a fatal error is neither taken nor lost in silence.
    #expect(try driver.send(Content(), tag: 8) == .full)
  }

  @Test("the culprit is always told before the fatal error", arguments: 0..<10)
  func culpritFirst(round: Int) throws {
    let driver = try SinkDriver(properties)
    try driver.deliver(Content(), tag: 0)
    try driver.awaitSettled(1)
    broker.failRequests(.produce, codes: [RD_KAFKA_RESP_ERR_INVALID_RECORD.rawValue])
    for tag in 1...200 {
      guard try driver.send(Content(key: "\(tag)"), tag: UInt64(tag)) == .accepted else { break }
    }
    let error = try driver.awaitFailure()
    #expect(error.kind == .sinkFailed)
    let rejected = driver.settled.filter { $0.error?.kind == .recordRejected }
    #expect(!rejected.isEmpty)
    // Whoever acts on the first failure must meet the cause, not a consequence.
    #expect(driver.settled.first { $0.error != nil }?.error?.kind == .recordRejected)
    // A batch of one, which left before the others came, has no neighbours.
    #expect(rejected.count == 1 || rejected.allSatisfy { $0.mayBeNeighbour })
  }

  @Test(
    "what is over with the next producer rejects no record",
    arguments: [
      RD_KAFKA_RESP_ERR_INVALID_MSG, RD_KAFKA_RESP_ERR_THROTTLING_QUOTA_EXCEEDED,
      RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
    ].map(\.rawValue))
  func retriable(code: Int32) throws {
    let driver = try SinkDriver(properties)
    try driver.deliver(Content(), tag: 0)
    try driver.awaitSettled(1)
    broker.failRequests(.produce, codes: [code])
    try driver.deliver(Content(), tag: 1)
    // Newer libraries retry some of these by themselves.
    try? driver.awaitSettled(2)
    #expect(driver.settled.allSatisfy { $0.error == nil || $0.error?.kind == .sinkFailed })
  }

  @Test func aRefusedRightIsDeniedNotRejected() throws {
    let driver = try SinkDriver(properties)
    try driver.deliver(Content(), tag: 0)
    try driver.awaitSettled(1)
    broker.failRequests(.produce, codes: [RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED.rawValue])
    try driver.deliver(Content(), tag: 1)
    _ = try driver.awaitFailure()
    #expect(driver.settled.last?.error?.kind == .sinkDenied)
    #expect(driver.settled.last?.error?.remedy?.contains("kafka-acls.sh") == true)
  }

  @Test func afterAFatalErrorANewSinkGoesOn() throws {
    let metrics = RelayMetrics()
    do {
      let driver = try SinkDriver(properties, metrics: metrics)
      try driver.deliver(Content(value: "1"), tag: 1)
      try driver.awaitSettled(1)
      try driver.deliver(Content(value: "2"), tag: 2)
      driver.sink.failForTest()
      let error = try driver.awaitFailure()
      #expect(error.kind == .sinkFailed)
      driver.sink.abandon()
    }
    let driver = try SinkDriver(properties, metrics: metrics)
    try driver.deliver(Content(value: "3"), tag: 3)
    try driver.awaitSettled(1)
    driver.sink.abandon()
    withExtendedLifetime(driver) {}
    let values = try consume(properties, topics: ["outbox.event.order"], count: 2).map(\.value)
    #expect(values.contains(Array("3".utf8)))
  }

  @Test func anAbandonedSinkEndsWithinASecondWhateverIsQueued() throws {
    var driver: SinkDriver? = try SinkDriver(properties)
    try driver?.deliver(Content(), tag: 0)
    try driver?.awaitSettled(1)
    broker.takeDown()
    for tag in 1...1000 { try driver?.deliver(Content(), tag: UInt64(tag)) }
    let start = Date()
    driver?.sink.abandon()
    driver = nil
    #expect(Date().timeIntervalSince(start) < 1.5)
  }

  @Test func deliveriesAreCountedByTopicAcrossProducers() throws {
    let metrics = RelayMetrics()
    for round in 0..<2 {
      let driver = try SinkDriver(properties, metrics: metrics)
      for topic in ["a", "b", "b"] { try driver.deliver(Content(topic: topic), tag: UInt64(round)) }
      try driver.awaitSettled(3)
    }
    #expect(metrics.topics == ["a": 2, "b": 4])
  }

  @Test func aThousandTopicsEachGetTheirRecords() throws {
    let client = try ProducerHandle(
      {
        var settings = KafkaSettings()
        settings.properties = properties
        return settings
      }())
    var table = TopicTable(client: client.client)
    defer { table.destroy() }
    func index(_ name: String) throws -> Int {
      try Content(topic: name).lend { record throws in try table.index(of: record.topic) }
    }
    for round in 0..<2 {
      for number in 0..<1000 { #expect(try index("topic.\(number)") == number, "round \(round)") }
    }
    #expect(table.name(999) == "topic.999")
    #expect(throws: RelayError.self) { try index("") }
  }

  @Test func inspectionNamesBrokersTopicsAndWhatIsMissing() throws {
    try broker.createTopic("orders", partitions: 3)
    var settings = KafkaSettings()
    settings.properties = properties
    let report = KafkaInspector.inspect(settings: settings, topics: ["orders"], milliseconds: 3000)
    #expect(report.brokers.count == 1)
    #expect(report.topics.map(\.partitions) == [3])
    #expect(!report.findings.contains { $0.level == .error })
    settings.properties["bootstrap.servers"] = "127.0.0.1:1"
    let away = KafkaInspector.inspect(settings: settings, topics: ["orders"], milliseconds: 500)
    #expect(away.findings.last?.level == .error)
    #expect(away.findings.last?.message.contains("Connection refused") == true)
  }
}

extension MockBroker {
  /// `setDown` binds the port again, and librdkafka aborts where that fails, as it does while a program that is
  /// just being started still has the old socket.
  func takeDown() { ChildProcess.whileNothingStarts { setDown() } }
}

extension KafkaSink {
  /// What librdkafka offers to provoke a fatal error.
  func failForTest() {
    rd_kafka_test_fatal_error(client, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, "provoked by a test")
  }
}
