// Owns: driving a sink as the loop does: send, wait on the descriptor, drain; and records made of text.
import Foundation
import RelayCore
import Testing

@testable import KafkaSink

/// A record's content, owned.
struct Content {
  var topic = "outbox.event.order"
  var key: [UInt8]? = Array("k".utf8)
  var value: [UInt8]? = Array("v".utf8)
  var headers: [(name: String, value: [UInt8])] = []

  init(
    topic: String = "outbox.event.order", key: String? = "k", value: String? = "v",
    headers: [(String, String)] = []
  ) {
    self.topic = topic
    self.key = key.map { Array($0.utf8) }
    self.value = value.map { Array($0.utf8) }
    self.headers = headers.map { (name: $0.0, value: Array($0.1.utf8)) }
  }

  /// Lends the content as a record, in one buffer as a source does.
  func lend<Result>(_ body: (Record) throws -> Result) rethrows -> Result {
    var bytes: [UInt8] = []
    func append(_ part: [UInt8]) -> Range<Int> {
      defer { bytes.append(0) }
      bytes += part
      return bytes.count - part.count..<bytes.count
    }
    let topicRange = append(Array(topic.utf8))
    let keyRange = key.map { append($0) }
    let valueRange = value.map { append($0) }
    let headerRanges = headers.map { (append(Array($0.name.utf8)), append($0.value)) }
    return try bytes.withUnsafeBytes { all in
      let headers = headerRanges.map {
        RecordHeader(name: .init(rebasing: all[$0.0]), value: .init(rebasing: all[$0.1]))
      }
      return try headers.withUnsafeBufferPointer { headers in
        try body(
          Record(
            topic: .init(rebasing: all[topicRange]), key: keyRange.map { .init(rebasing: all[$0]) },
            value: valueRange.map { .init(rebasing: all[$0]) }, headers: headers))
      }
    }
  }
}

struct TimedOut: Error, CustomStringConvertible { var description: String }

/// A sink in the hands of a test.
final class SinkDriver {
  struct Settled {
    var tag: UInt64
    var error: RelayError?
    var mayBeNeighbour = false
    var key: [UInt8]?
    var value: [UInt8]?
    var topic = ""
    var headers: [String] = []
  }

  let sink: KafkaSink
  let metrics: RelayMetrics
  private(set) var settled: [Settled] = []
  /// Why the record that was sent last is held.
  private(set) var wait: GateWait?
  /// Why records wait.
  var hold: String? { wait?.reason ?? metrics.sinkFault }

  enum Outcome: Equatable { case accepted, full, held }

  init(
    _ properties: [String: String], files: [String: String] = [:],
    missingTopic: KafkaSettings.MissingTopic = .hold, metrics: RelayMetrics = RelayMetrics(),
    batchLimit: BatchLimit = BatchLimit(), topicLimit: Int = 10_000
  ) throws {
    var settings = KafkaSettings()
    settings.properties = properties
    settings.propertyFiles = files
    settings.missingTopic = missingTopic
    self.metrics = metrics
    sink = try KafkaSink(
      settings: settings, metrics: metrics, log: Log(level: .error), batchLimit: batchLimit,
      topicLimit: topicLimit)
  }

  /// Asks the gate, and sends where it lets the record pass.
  func send(_ content: Content, tag: UInt64) throws -> Outcome {
    try content.lend { record in
      let event = GateEvent(record: record, place: EventSequence(commitLSN: .zero, index: 0), outstanding: 0)
      wait = nil
      switch try sink.answer(event) {
      case .pass: break
      case .wait(let wait):
        self.wait = wait
        return .held
      case .divert(let rejection): throw rejection
      case .skip: throw TimedOut(description: "the sink skips the record")
      }
      switch try sink.send(record, tag: tag) {
      case .accepted: return .accepted
      case .full: return .full
      case .notAdmitted: return .held
      }
    }
  }

  /// Sends, and while the sink says no, drains and tries again.
  func deliver(_ content: Content, tag: UInt64, seconds: Double = 20) throws {
    let deadline = Date().addingTimeInterval(seconds)
    while true {
      switch try send(content, tag: tag) {
      case .accepted: return
      case .full: try turn()
      case .held:
        try turn(milliseconds: MonotonicTime.now().milliseconds(until: wait?.until ?? .never, limit: 200))
      }
      if Date() > deadline {
        throw TimedOut(description: "record \(tag) was not accepted: \(hold ?? "no hold")")
      }
    }
  }

  /// One turn of a loop: waits for the descriptor, then drains.
  func turn(milliseconds: Int = 100) throws {
    var entry = pollfd(fd: sink.descriptor, events: Int16(POLLIN), revents: 0)
    poll(&entry, 1, Int32(milliseconds))
    try drain()
  }

  func drain() throws {
    try sink.drain { delivery in
      var result = Settled(tag: delivery.tag)
      if let failure = delivery.failure {
        result.error = failure.error
        result.mayBeNeighbour = failure.mayBeNeighbour
        result.key = failure.record.key.map { Array($0) }
        result.value = failure.record.value.map { Array($0) }
        result.topic = String(decoding: failure.record.topic, as: UTF8.self)
        result.headers = failure.record.headers.map {
          "\(String(decoding: $0.name, as: UTF8.self))=\(String(decoding: $0.value, as: UTF8.self))"
        }
      }
      settled.append(result)
    }
  }

  /// Turns until the condition holds.
  func wait(_ what: String, seconds: Double = 20, _ condition: () -> Bool) throws {
    let deadline = Date().addingTimeInterval(seconds)
    while !condition() {
      if Date() > deadline { throw TimedOut(description: "waited \(seconds) s for \(what)") }
      try turn()
    }
  }

  func awaitSettled(_ count: Int, seconds: Double = 20) throws {
    try wait("\(count) deliveries", seconds: seconds) { settled.count >= count }
  }

  /// Turns until `drain` throws.
  func awaitFailure(seconds: Double = 20) throws -> RelayError {
    do {
      try wait("a failure", seconds: seconds) { false }
    } catch let error as RelayError {
      return error
    }
    throw TimedOut(description: "no failure")
  }
}

/// Reads `count` records of the topics.
func consume(
  _ properties: [String: String], topics: Set<String>, count: Int, seconds: Double = 20
) throws -> [ConsumedRecord] {
  var settings = KafkaSettings()
  settings.properties = properties.merging(["fetch.wait.max.ms": "20"]) { old, _ in old }
  let consumer = try KafkaConsumer(settings: settings) { topics.contains($0) }
  let deadline = Date().addingTimeInterval(seconds)
  var records: [ConsumedRecord] = []
  while records.count < count {
    if let record = consumer.next(milliseconds: 200) { records.append(record) }
    if Date() > deadline {
      throw TimedOut(
        description: "consumed \(records.count) of \(count) records: \(consumer.trouble ?? "no trouble")")
    }
  }
  return records
}

/// The partition that a Java client gives a key: murmur2 as in Kafka's `Utils`.
enum JavaPartitioner {
  static func murmur2(_ key: [UInt8]) -> Int32 {
    let m: UInt32 = 0x5bd1_e995
    var h: UInt32 = 0x9747_b28c ^ UInt32(key.count)
    var i = 0
    while i + 4 <= key.count {
      var k =
        UInt32(key[i]) | UInt32(key[i + 1]) << 8 | UInt32(key[i + 2]) << 16 | UInt32(key[i + 3]) << 24
      k = k &* m
      k ^= k >> 24
      k = k &* m
      h = h &* m ^ k
      i += 4
    }
    let rest = key.count - i
    if rest >= 3 { h ^= UInt32(key[i + 2]) << 16 }
    if rest >= 2 { h ^= UInt32(key[i + 1]) << 8 }
    if rest >= 1 {
      h ^= UInt32(key[i])
      h = h &* m
    }
    h ^= h >> 13
    h = h &* m
    h ^= h >> 15
    return Int32(bitPattern: h)
  }

  static func partition(_ key: [UInt8], of partitions: Int32) -> Int32 {
    (murmur2(key) & 0x7fff_ffff) % partitions
  }
}
