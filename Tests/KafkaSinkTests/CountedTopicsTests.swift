// How many topics the metrics name and a producer holds, however many rows name.
import CRdkafka
import RelayCore
import Testing

@testable import KafkaSink

@Suite struct CountedTopicsTests {
  @Test func `of hundreds of topics two hundred are counted by name, and the others together`() {
    var counts: [String: UInt64] = [:]
    for turn in 1...2 {
      for number in 1...260 { KafkaSink.count(1, of: "topic-\(number)", in: &counts) }
      #expect(counts.count == KafkaSink.countedTopics + 1)
      #expect(counts["topic-200"] == UInt64(turn) && counts["topic-201"] == nil)
      #expect(counts["other"] == UInt64(60 * turn))
    }
  }

  @Test func `a producer that has met as many topics as it may is replaced, and every record arrives`() throws
  {
    let broker = try MockBroker()
    let driver = try SinkDriver(["bootstrap.servers": broker.bootstrapServers], topicLimit: 5)
    for number in 0..<40 {
      driver.sink.renewTime = MonotonicTime(nanoseconds: 0)
      try driver.deliver(Content(topic: "topic.\(number % 12)", value: "\(number)"), tag: UInt64(number))
      #expect(driver.sink.topics.entries.count <= 5)
    }
    try driver.awaitSettled(40)
    #expect(driver.settled.map(\.tag).sorted() == (0..<40).map { UInt64($0) })
    driver.sink.publishTopics()
    #expect(driver.metrics.topics.values.reduce(0, +) == 40)
  }

  @Test func `a topic whose name Kafka does not take is a rejection of its record, and no end of the sink`()
    throws
  {
    let broker = try MockBroker()
    let driver = try SinkDriver(["bootstrap.servers": broker.bootstrapServers])
    broker.setTopicError("odd", code: RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION.rawValue)
    let rejection = try Content(topic: "odd").lend { record in
      let event = GateEvent(record: record, place: EventSequence(commitLSN: .zero, index: 0), outstanding: 0)
      if case .divert(let rejection) = try driver.sink.answer(event) { return rejection }
      throw TimedOut(description: "the record is not rejected")
    }
    #expect(rejection.kind == .recordRejected && rejection.message.contains("odd"))
    try driver.deliver(Content(topic: "even"), tag: 1)
    try driver.awaitSettled(1)
  }
}
