// Owns: the check of the newest messages of a process's first topic for events of its own source.
// Must not know: where the server's WAL ends, and what follows from an event that lies beyond it.
import CRdkafka
import Glibc
public import RelayCore
import Synchronization

/// Reads a few messages from the end of each partition of the first record's topic, before that record is sent. Where
/// the topic cannot be read, nothing is known, and the record is sent.
public final class OriginCheck: FirstSight {
  /// An event that Kafka holds under the source of the record.
  public struct Event: Sendable {
    public var topic: String
    public var source: String
    public var sequence: EventSequence
    /// Milliseconds since 1970; -1 where there is none.
    public var timestamp: Int64
  }

  /// Messages of each partition.
  private static let depth: Int64 = 10
  private static let groupSize = 8
  private static let patience = 2_000
  private static let attemptLimit = 20

  private let settings: KafkaSettings
  private let after: LSN
  private let metrics: RelayMetrics
  private let log: Log
  private let judge: ([Event]) throws(RelayError) -> Void
  private var reader: TailReader?
  private var attempts = 0
  /// True once the topic was examined, or cannot be.
  public private(set) var isDone = false

  /// - Parameters:
  ///   - after: events of transactions that committed before it are of no interest.
  ///   - judge: called with the others, if there are any; throws where nothing may be sent.
  public init(
    settings: KafkaSettings, after: LSN, metrics: RelayMetrics, log: Log,
    judge: @escaping ([Event]) throws(RelayError) -> Void
  ) {
    self.settings = settings
    self.after = after
    self.metrics = metrics
    self.log = log
    self.judge = judge
  }

  public func answer(_ event: GateEvent) throws(RelayError) -> GateAnswer {
    if isDone { return .pass }
    let topic = String(decoding: event.record.topic, as: UTF8.self)
    return try metrics.holding(for: Self.checking(topic)) { () throws(RelayError) in
      try examine(event.record, topic)
    }
  }

  private static func checking(_ topic: String) -> String {
    "checking topic \"\(topic)\" for events of another server"
  }

  private func examine(_ record: Record, _ topic: String) throws(RelayError) -> GateAnswer {
    guard let source = EventShape.bytes(of: .source, in: record).map(Array.init) else { return finish() }
    let found: [Event]
    do throws(TailReader.Failure) {
      guard let events = try read(topic, source) else { return finish() }
      found = events
    } catch {
      return unknown(topic, error)
    }
    if !found.isEmpty { try judge(found) }
    return finish()
  }

  private func finish() -> GateAnswer {
    isDone = true
    reader = nil
    return .pass
  }

  private func unknown(_ topic: String, _ failure: TailReader.Failure) -> GateAnswer {
    switch failure {
    case .missing: return finish()
    case .refused(let code): tell(topic, KafkaFailure.text(code))
    case .notNow(let code):
      // A broker that takes longer than the first question waited would else never be heard.
      reader?.patience = KafkaSink.patience(attempts: 1)
      // While the producer has no connection either, nothing can be sent.
      let isAway = metrics.kafkaBrokersUp.load(ordering: .relaxed) == 0
      if !isAway { attempts += 1 }
      guard attempts > Self.attemptLimit else {
        return .wait(
          GateWait(
            for: isAway ? "Kafka" : "the check for events of another server",
            "\(Self.checking(topic)): the consumer got no answer: " + KafkaFailure.text(code),
            until: MonotonicTime.now().advanced(milliseconds: 500)))
      }
      tell(topic, KafkaFailure.text(code))
    }
    return finish()
  }

  private func tell(_ topic: String, _ reason: String) {
    log.info(
      "cannot tell whether another server publishes with this source: outboxd may not read the topic",
      ("topic", topic),
      ("reason", reason))
  }

  /// Nil: there can be no consumer.
  private func read(_ topic: String, _ source: [UInt8]) throws(TailReader.Failure) -> [Event]? {
    guard let reader = openReader(topic) else { return nil }
    let partitions = try reader.partitions(of: topic).filter { $0.high > $0.low }
    let deadline = MonotonicTime.now().advanced(milliseconds: Self.patience)
    var events: [Event] = []
    var first = 0
    while first < partitions.count, MonotonicTime.now() < deadline {
      let group = partitions[first..<min(first + Self.groupSize, partitions.count)]
      first += Self.groupSize
      _ = reader.read(
        group.map { (partition: $0, start: max($0.low, $0.high - Self.depth)) }, of: topic, after: .zero,
        room: .max,
        until: deadline
      ) { record, sequence, timestamp in
        guard sequence.commitLSN >= after,
          EventShape.bytes(of: .source, in: record)?.elementsEqual(source) == true
        else { return }
        events.append(
          Event(
            topic: topic, source: String(decoding: source, as: UTF8.self), sequence: sequence,
            timestamp: timestamp))
      }
    }
    return events
  }

  private func openReader(_ topic: String) -> TailReader? {
    if let reader { return reader }
    do throws(RelayError) {
      reader = try TailReader(settings) { [metrics] in
        metrics.lastTurn.store(MonotonicTime.now().nanoseconds, ordering: .relaxed)
      }
    } catch {
      tell(topic, error.message)
    }
    return reader
  }
}
