import CRdkafka
import Foundation
import RelayCore
import Synchronization
import Testing

@testable import KafkaSink

@Suite(.serialized) struct UndeliveredTests {
  let broker: MockBroker
  var properties: [String: String] { ["bootstrap.servers": broker.bootstrapServers] }

  init() throws { broker = try MockBroker() }

  @Test func `a batch that is too large is sent again in smaller ones, and no record is rejected`() throws {
    let limit = BatchLimit()
    var refusals = 0
    // Neither the mock cluster's limit nor the sizes matter: it refuses what it is told to.
    for expected in [4_000, 2_000, 1_000] {
      let driver = try SinkDriver(
        properties.merging(["batch.size": "8000", "linger.ms": "50"]) { $1 }, batchLimit: limit)
      try driver.deliver(Content(topic: "limited"), tag: 0)
      try driver.awaitSettled(1)
      broker.failRequests(.produce, codes: [RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE.rawValue])
      for tag in 1...200 {
        guard
          try driver.send(
            Content(topic: "limited", value: String(repeating: "x", count: 100)), tag: UInt64(tag))
            == .accepted
        else { break }
      }
      _ = try driver.awaitFailure()
      let error = try #require(driver.settled.first { $0.error != nil }?.error)
      #expect(error.kind == .sinkFailed && error.isRemedied, "\(error)")
      #expect(error.message.contains("topic \"limited\" refused a batch of"))
      #expect(
        error.remedy?.contains("batch.size") == true && error.remedy?.contains("max.message.bytes") == true)
      #expect(!driver.settled.contains { $0.error?.kind == .recordRejected })
      let bytes = try #require(limit.bytes)
      #expect(bytes <= expected && bytes > expected / 4, "\(bytes)")
      refusals += 1
    }
    #expect(refusals == 3)
  }

  @Test func `a record that is too large by itself is rejected at once, whatever the batches`() throws {
    let limit = BatchLimit()
    let driver = try SinkDriver(properties, batchLimit: limit)
    try driver.deliver(Content(), tag: 0)
    try driver.awaitSettled(1)
    broker.failRequests(.produce, codes: [RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE.rawValue])
    try driver.deliver(Content(), tag: 1)
    _ = try driver.awaitFailure()
    #expect(driver.settled.last?.error?.kind == .recordRejected)
    #expect(driver.settled.last?.mayBeNeighbour == false)
    #expect(limit.bytes == nil)
  }

  @Test func `events that a connected broker does not acknowledge are a hold until it does`() throws {
    let driver = try SinkDriver(properties)
    try driver.deliver(Content(), tag: 0)
    try driver.awaitSettled(1)
    broker.setRoundTrip(milliseconds: 14_000)
    for tag in 1...20 { try driver.deliver(Content(), tag: UInt64(tag)) }
    #expect(driver.hold == nil)
    try driver.wait("the hold", seconds: 13) { driver.hold != nil }
    #expect(driver.hold?.contains("Kafka has not acknowledged 20 events for 1") == true)
    broker.setRoundTrip(milliseconds: 0)
    try driver.awaitSettled(21)
    try driver.wait("the end of the hold") { driver.hold == nil }
  }

  @Test func `a consumer that fails by itself is named, and waited for only so long`() throws {
    try broker.createTopic("compared", partitions: 2)
    let metrics = RelayMetrics()
    let driver = try SinkDriver(properties, metrics: metrics)
    try driver.deliver(Content(topic: "compared"), tag: 0)
    try driver.awaitSettled(1)
    // Only who reads asks for offsets.
    broker.failRequests(
      .listOffsets, codes: [Int32](repeating: RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR.rawValue, count: 1000))
    var settings = KafkaSettings()
    settings.properties = properties
    var tails: PartitionTails? = PartitionTails(
      settings: settings, after: .zero, through: LSN(1), patience: 5000, metrics: metrics,
      log: Log(level: .error))
    tails?.totalPatience = 3_000
    func ask() -> Recognition? {
      Content(topic: "compared").lend {
        tails?.recognize($0, EventSequence(commitLSN: LSN(1), index: 0))
      }
    }
    let start = MonotonicTime.now()
    guard case .wait(let wait) = ask() else { throw TimedOut(description: "there is an answer at once") }
    let reason = wait.reason
    #expect(reason.contains("comparing topic \"compared\"") && reason.contains("consumer"))
    #expect(metrics.lastTurn.load(ordering: .relaxed) >= start.nanoseconds)
    var answer = ask()
    while case .wait = answer, MonotonicTime.now() < start.advanced(milliseconds: 20_000) {
      try driver.turn(milliseconds: 100)
      answer = ask()
    }
    #expect(answer == .unknown)
    #expect(metrics.hold == nil)
    tails = nil
  }
}
