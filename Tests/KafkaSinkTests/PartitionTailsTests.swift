import CRdkafka
import Foundation
import RelayCore
import RelayTesting
import Testing

@testable import KafkaSink

/// The event's place as text, as a header has it.
private func sequence(_ commit: UInt64, _ index: UInt32 = 0) -> String {
  func hexadecimal(_ value: UInt64, _ digits: Int) -> String {
    let text = String(value, radix: 16)
    return String(repeating: "0", count: digits - text.count) + text
  }
  return hexadecimal(commit, 16) + "-" + hexadecimal(UInt64(index), 8)
}

private func binary(
  _ topic: String, _ commit: UInt64, _ index: UInt32 = 0, key: String? = "k", value: String? = "v",
  more: [(String, String)] = []
) -> Content {
  Content(
    topic: topic, key: key, value: value,
    headers: [("ce_id", "\(commit).\(index)"), ("ce_sequence", sequence(commit, index))] + more)
}

private func structured(_ topic: String, _ commit: UInt64) -> Content {
  Content(
    topic: topic, key: "k",
    value:
      #"{"specversion":"1.0","id":"\#(commit)","sequence":"\#(sequence(commit))","data":{"sequence":"x"}}"#,
    headers: [("content-type", "application/cloudevents+json; charset=UTF-8")])
}

/// Tails in the hands of a test.
private final class Tails {
  let tails: PartitionTails
  /// A file: of a pipe, the log opens an end of its own.
  private let log = NSTemporaryDirectory() + "outboxd-tails-\(UUID().uuidString)"
  private let descriptor: Int32

  init(
    _ properties: [String: String], after: UInt64, patience: Int = 5000, isSettled: Bool = false,
    doubt: String? = nil
  ) {
    var settings = KafkaSettings()
    settings.properties = properties
    descriptor = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    tails = PartitionTails(
      settings: settings, after: LSN(after), through: LSN(99_999), isSettled: isSettled, doubt: doubt,
      patience: patience, metrics: RelayMetrics(),
      log: Log(level: .notice, descriptor: descriptor))
  }

  deinit {
    close(descriptor)
    unlink(log)
  }

  /// What was logged at notice or above.
  func notices() -> [String] {
    let text = (try? String(contentsOfFile: log, encoding: .utf8)) ?? ""
    return text.split(separator: "\n").map(String.init)
  }

  /// As the loop asks: again, where there is no answer yet.
  func contains(_ content: Content, _ commit: UInt64, _ index: UInt32 = 0) throws -> Bool {
    try recognize(content, commit, index) == .there
  }

  func recognize(_ content: Content, _ commit: UInt64, _ index: UInt32 = 0) throws -> Recognition {
    let deadline = Date().addingTimeInterval(30)
    while true {
      let answer = content.lend { tails.recognize($0, EventSequence(commitLSN: LSN(commit), index: index)) }
      guard case .wait(let wait) = answer else { return answer }
      guard Date() < deadline else { throw TimedOut(description: "no answer about \(content.topic)") }
      usleep(UInt32(MonotonicTime.now().milliseconds(until: wait.until, limit: 500)) * 1000)
    }
  }
}

@Suite(.serialized, .enabled(if: KafkaCluster.program != nil, "no real Kafka"))
struct PartitionTailsTests {
  private let kafka: KafkaCluster
  private var properties: [String: String] { ["bootstrap.servers": kafka.bootstrap] }

  init() throws { kafka = try RealKafka.secure.get() }

  private func create(_ topic: String, partitions: Int = 4, _ configuration: String...) throws {
    try kafka.tool(
      ["topics", "--create", "--topic", topic, "--partitions", "\(partitions)"]
        + configuration.flatMap { ["--config", $0] })
  }

  private func publish(_ contents: [Content]) throws {
    let driver = try SinkDriver(properties)
    for (tag, content) in contents.enumerated() { try driver.deliver(content, tag: UInt64(tag)) }
    try driver.awaitSettled(contents.count)
    #expect(driver.settled.allSatisfy { $0.error == nil })
  }

  @Test func `an event is found where every byte is the same, in both modes`() throws {
    try create("tails.exact")
    let there = [
      binary("tails.exact", 1000), binary("tails.exact", 1000, 1, key: "other"),
      binary("tails.exact", 1001, key: nil), binary("tails.exact", 1002, key: "", value: ""),
      binary("tails.exact", 1003, key: "tomb", value: nil, more: [("e", "")]),
      structured("tails.exact", 1004),
    ]
    try publish(there)
    let tails = Tails(properties, after: 1000)
    #expect(!tails.tails.hasLooked)
    #expect(try tails.contains(there[0], 1000))
    #expect(try tails.contains(there[1], 1000, 1))
    #expect(try tails.contains(there[2], 1001))
    #expect(try tails.contains(there[3], 1002))
    #expect(try tails.contains(there[4], 1003))
    #expect(try tails.contains(there[5], 1004))
    #expect(tails.notices().isEmpty)
    // Each differs in one respect.
    let others = [
      binary("tails.exact", 1000, value: "w"), binary("tails.exact", 1000, value: nil),
      binary("tails.exact", 1000, key: "q"), binary("tails.exact", 1000, more: [("x", "y")]),
      binary("tails.exact", 1000, more: [("outboxd-replay", "1")]),
    ]
    for other in others { #expect(try !Tails(properties, after: 1000).contains(other, 1000)) }
    #expect(try !Tails(properties, after: 1000).contains(there[3], 1002, 1))
    #expect(try !Tails(properties, after: 1001).contains(there[0], 1000))
  }

  @Test func `a replay does not count, nor another writer's message with the same place`() throws {
    try create("tails.foreign")
    try publish([
      binary("tails.foreign", 2000, more: [("outboxd-replay", "x")]),
      binary("tails.foreign", 2001, value: "another database's"),
      Content(topic: "tails.foreign", value: "nothing of ours"),
      Content(topic: "tails.foreign", headers: [("ce_sequence", "17")]),
      Content(
        topic: "tails.foreign", value: "{", headers: [("content-type", "application/cloudevents+json")]),
      binary("tails.foreign", 2002, key: "l"),
    ])
    let tails = Tails(properties, after: 2000)
    #expect(try !tails.contains(binary("tails.foreign", 2000, more: [("outboxd-replay", "x")]), 2000))
    #expect(try !tails.contains(binary("tails.foreign", 2001), 2001))
    #expect(try tails.contains(binary("tails.foreign", 2002, key: "l"), 2002))
  }

  @Test func `reading goes back as far as the checkpoint, and no further`() throws {
    try create("tails.far", partitions: 1)
    try publish((0..<12_000).map { binary("tails.far", 3000 + UInt64($0), key: "k\($0 % 7)") })
    let tails = Tails(properties, after: 4000)
    #expect(try tails.contains(binary("tails.far", 4000, key: "k\(1000 % 7)"), 4000))
    #expect(try tails.contains(binary("tails.far", 14_999, key: "k\(11_999 % 7)"), 14_999))
    #expect(try !tails.contains(binary("tails.far", 15_000, key: "new"), 15_000))
    #expect(tails.notices().isEmpty)
  }

  @Test func `a topic that is not there holds nothing, and is not created`() throws {
    let tails = Tails(properties, after: 1)
    #expect(try !tails.contains(binary("tails.absent", 5000), 5000))
    // The broker is known to know its topics by now: it is asked once for each of the next ones.
    for number in 0..<20 {
      let content = binary("tails.absent.\(number)", 5000)
      let answer = content.lend {
        tails.tails.recognize($0, EventSequence(commitLSN: LSN(5000), index: 0))
      }
      #expect(answer == .absent)
    }
    #expect(tails.notices().isEmpty)
    var settings = KafkaSettings()
    settings.properties = properties
    #expect(KafkaInspector.inspect(settings: settings, topics: ["tails.absent"]).topics.isEmpty)
  }

  @Test func `a consumer is replaced before it holds many topics, and what it knew stays`() throws {
    try create("tails.last")
    try publish([binary("tails.last", 5000)])
    let tails = Tails(properties, after: 1)
    for number in 0..<(PartitionTails.topicsOfReader + 20) {
      #expect(try !tails.contains(binary("tails.many.\(number)", 5000), 5000))
    }
    #expect(try tails.contains(binary("tails.last", 5000), 5000))
    #expect(tails.tails.heldTopics == 21)
    #expect(tails.notices().isEmpty)
  }

  @Test func `a topic that nobody has written to is not waited for`() throws {
    try create("tails.new")
    try create("tails.old")
    try publish([binary("tails.old", 8000)])
    let tails = Tails(properties, after: 1)
    #expect(try !tails.contains(binary("tails.new", 8000), 8000))
    #expect(!tails.tails.isStill)
    #expect(try tails.contains(binary("tails.old", 8000), 8000))
    #expect(tails.tails.isStill)
  }

  @Test func `an empty topic, deleted records and the marks of transactions end the reading`() throws {
    try create("tails.empty")
    try create("tails.gaps", partitions: 1)
    #expect(try !Tails(properties, after: 1).contains(binary("tails.empty", 5000), 5000))
    try publish((0..<50).map { binary("tails.gaps", 6000 + UInt64($0), key: "\($0)") })
    try transaction("tails.gaps", commits: false)
    try transaction("tails.gaps", commits: true)
    let request = kafka.path("delete.json")
    try #"{"partitions":[{"topic":"tails.gaps","partition":0,"offset":20}],"version":1}"#
      .write(toFile: request, atomically: true, encoding: .utf8)
    try kafka.tool(["delete-records", "--offset-json-file", request])
    let begin = Date()
    let tails = Tails(properties, after: 6000)
    #expect(try !tails.contains(binary("tails.gaps", 6019, key: "19"), 6019))
    #expect(try tails.contains(binary("tails.gaps", 6020, key: "20"), 6020))
    #expect(try tails.contains(binary("tails.gaps", 6049, key: "49"), 6049))
    #expect(Date().timeIntervalSince(begin) < 3)
    // What was deleted may have been events of ours.
    #expect(tails.notices().count == 1)
    #expect(tails.notices().first?.contains("before offset 20 are gone") == true)
  }

  @Test func `behind the beginning of an open transaction nothing is proved, which is said once`() throws {
    try create("tails.open", partitions: 1)
    try publish([binary("tails.open", 6000, key: "a")])
    let client = try beginTransaction("tails.open")
    defer { rd_kafka_destroy(client) }
    try publish([binary("tails.open", 6001, key: "b")])
    let tails = Tails(properties, after: 6000)
    for commit in UInt64(6000)...6002 {
      #expect(try tails.recognize(binary("tails.open", commit, key: "a"), commit) == .unknown)
    }
    #expect(tails.notices().count == 1)
    let notice = try #require(tails.notices().first)
    for word in ["topic=tails.open", "open transaction", "offset 1", "from=0/1770", "through=0/1869F"] {
      #expect(notice.contains(word), "\(notice)")
    }
    // One that ends while it is waited for hides nothing.
    #expect(rd_kafka_commit_transaction(client, 20_000) == nil)
    let after = Tails(properties, after: 6000)
    #expect(try after.contains(binary("tails.open", 6000, key: "a"), 6000))
    #expect(try after.contains(binary("tails.open", 6001, key: "b"), 6001))
    #expect(try after.recognize(binary("tails.open", 6002, key: "a"), 6002) == .absent)
    #expect(after.notices().isEmpty)
  }

  @Test func `other bytes at the place of an event are told of, once for each topic`() throws {
    let topics = (0..<7).map { "tails.changed.\($0)" }
    for topic in topics {
      try create(topic, partitions: 1)
      try publish([
        binary(topic, 6000, key: "a"), binary(topic, 6001, key: "b"), binary(topic, 6003, key: "c"),
      ])
    }
    let tails = Tails(properties, after: 6000)
    for topic in topics {
      let structured = structured(topic, 6000)
      #expect(try tails.recognize(structured, 6000) == .unknown)
      #expect(try tails.recognize(binary(topic, 6001, key: "b", more: [("x", "y")]), 6001) == .unknown)
      // One that never came is no duplicate.
      #expect(try tails.recognize(binary(topic, 6002, key: "d"), 6002) == .absent)
      #expect(try tails.recognize(binary(topic, 6004, key: "d"), 6004) == .absent)
    }
    #expect(tails.notices().count == topics.count)
    #expect(tails.notices().allSatisfy { $0.contains("other bytes") })
  }

  @Test
  func `what the former process may have sent elsewhere is told of, unless it ended with all confirmed`()
    throws
  {
    try create("tails.moved", partitions: 1)
    let tails = Tails(properties, after: 6000, doubt: "other outboxes")
    #expect(try tails.recognize(binary("tails.moved", 6000), 6000) == .unknown)
    #expect(try tails.recognize(binary("tails.moved", 6001), 6001) == .unknown)
    #expect(tails.notices().count == 1 && tails.notices().first?.contains("other outboxes") == true)
    let settled = Tails(properties, after: 6000, isSettled: true, doubt: "other outboxes")
    #expect(try settled.recognize(binary("tails.moved", 6000), 6000) == .absent)
    #expect(settled.notices().isEmpty)
  }

  @Test func `a partition that is full of another producer's messages is not clear`() throws {
    try create("tails.junk", partitions: 1)
    try publish([binary("tails.junk", 6000)])
    try publish((0..<8_100).map { Content(topic: "tails.junk", value: "junk \($0)") })
    let tails = Tails(properties, after: 6000)
    #expect(try tails.recognize(binary("tails.junk", 6000), 6000) == .unknown)
    #expect(tails.notices().count == 1 && tails.notices().first?.contains("another producer's") == true)
  }

  /// One record of no interest, and the mark behind it.
  private func transaction(_ topic: String, commits: Bool) throws {
    let client = try beginTransaction(topic)
    defer { rd_kafka_destroy(client) }
    if commits {
      #expect(rd_kafka_commit_transaction(client, 20_000) == nil)
    } else {
      #expect(rd_kafka_abort_transaction(client, 20_000) == nil)
    }
  }

  /// A producer whose transaction has one record of no interest in partition 0.
  private func beginTransaction(_ topic: String) throws -> OpaquePointer {
    let configuration = rd_kafka_conf_new()
    for (name, value) in properties.merging(
      ["transactional.id": UUID().uuidString], uniquingKeysWith: { $1 })
    {
      #expect(KafkaProperties.set(name, value, in: configuration!) == nil)
    }
    let client = try KafkaProperties.client(RD_KAFKA_PRODUCER, configuration!)
    #expect(rd_kafka_init_transactions(client, 20_000) == nil)
    #expect(rd_kafka_begin_transaction(client) == nil)
    let handle = rd_kafka_topic_new(client, topic, nil)
    defer { rd_kafka_topic_destroy(handle) }
    var value = Array("x".utf8)
    #expect(
      rd_kafka_produce(handle, 0, Int32(RD_KAFKA_MSG_F_COPY), &value, value.count, nil, 0, nil) == 0)
    #expect(rd_kafka_flush(client, 10_000) == RD_KAFKA_RESP_ERR_NO_ERROR)
    return client
  }

  @Test func `a topic that may not be read is not clear, and a notice says what to grant`() throws {
    try create("tails.denied")
    try publish([binary("tails.denied", 7000)])
    try kafka.tool([
      "acls", "--add", "--allow-principal", "User:reader", "--operation", "Describe", "--topic",
      "tails.denied",
    ])
    let properties = [
      "bootstrap.servers": try kafka.content("bootstrap-scram"), "security.protocol": "SASL_SSL",
      "sasl.mechanism": "PLAIN", "sasl.username": "reader", "sasl.password": "reader-secret",
      "ssl.ca.location": kafka.path("tls/ca.crt"),
    ]
    let begin = Date()
    let tails = Tails(properties, after: 1)
    #expect(try !tails.contains(binary("tails.denied", 7000), 7000))
    #expect(try !tails.contains(binary("tails.denied", 7001), 7001))
    #expect(Date().timeIntervalSince(begin) < 5)
    let notices = tails.notices()
    #expect(notices.count == 1)
    #expect(notices.first?.contains("tails.denied") == true)
    #expect(notices.first?.contains("--operation Read") == true)
  }

  @Test func `while no broker answers there is no answer, and no long wait`() throws {
    let tails = Tails(["bootstrap.servers": "127.0.0.1:1"], after: 1)
    for _ in 0..<3 {
      let begin = MonotonicTime.now()
      let answer = binary("tails.away", 1).lend {
        tails.tails.recognize($0, EventSequence(commitLSN: LSN(1), index: 0))
      }
      guard case .wait(let wait) = answer else { throw TimedOut(description: "\(answer)") }
      #expect(MonotonicTime.now() < begin.advanced(milliseconds: 2000))
      #expect(wait.until > begin)
    }
    #expect(tails.notices().isEmpty)
  }

  @Test func `after Kafka was away a missing topic is asked for twice again`() throws {
    let broker = try MockBroker()
    for topic in ["tails.first", "tails.second"] {
      broker.setTopicError(topic, code: RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART.rawValue)
    }
    let tails = Tails(["bootstrap.servers": broker.bootstrapServers], after: 1)
    #expect(try !tails.contains(binary("tails.first", 1), 1))
    #expect(tails.tails.knowsTopics)
    broker.takeDown()
    let answer = binary("tails.second", 1).lend {
      tails.tails.recognize($0, EventSequence(commitLSN: LSN(1), index: 0))
    }
    guard case .wait = answer else { throw TimedOut(description: "\(answer)") }
    #expect(!tails.tails.knowsTopics)
    broker.setUp()
    #expect(try !tails.contains(binary("tails.second", 1), 1))
    #expect(tails.tails.knowsTopics)
  }

  @Test func `a tail that takes too long is not clear`() throws {
    try create("tails.slow", partitions: 1)
    try publish([binary("tails.slow", 8000)])
    let tails = Tails(properties, after: 1, patience: 0)
    #expect(try !tails.contains(binary("tails.slow", 8000), 8000))
    #expect(tails.notices().count == 1)
  }

  @Test func `of a compacted topic, what is left of a key is sent again after what was sent before it`()
    throws
  {
    try create("tails.compacted", partitions: 1)
    // As compaction leaves it: of the first key only the newest.
    try publish([binary("tails.compacted", 9001, key: "a"), binary("tails.compacted", 9002, key: "b")])
    let tails = Tails(properties, after: 9000)
    #expect(try !tails.contains(binary("tails.compacted", 9000, key: "a"), 9000))
    #expect(try !tails.contains(binary("tails.compacted", 9001, key: "a"), 9001))
    #expect(try tails.contains(binary("tails.compacted", 9002, key: "b"), 9002))
  }
}
