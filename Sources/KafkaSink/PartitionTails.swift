// Owns: what Kafka holds already when a relay starts after an unclean stop: the tails of the topics concerned.
// Must not know: why it is asked, where checkpoints are.
import CRdkafka
import Glibc
public import RelayCore
import Synchronization

/// Reads the tail of each topic that it is asked about, once, and compares whole messages: key, value, headers.
/// An event counts as delivered only where its exact bytes are there with its exact `sequence`. So another writer,
/// compaction, a changed number of partitions or a changed mapping can at worst have it sent again. What is not
/// seen, is sent; and with it all later events of the same key, so that none of them comes before it.
///
/// A producer that was killed may have had requests on their way. The brokers answer our questions after those
/// that had come before, so the ends of the partitions are taken once they have stood still for a moment, and at once
/// where a topic is empty. What remains is a request that a network or a broker holds back for longer than that, or
/// whose records the followers do not have yet: its events are sent again, as they would have been without this.
///
/// Confined to the relay's thread. There is no consumer before the first question.
public final class PartitionTails: DeliveredEvents {
  /// For all topics together, in milliseconds.
  var totalPatience = 30_000
  /// Events that are kept, 24 bytes each.
  static let eventLimit = 500_000
  /// Partitions that are read at a time.
  private static let groupSize = 8
  /// Topics after which a consumer is replaced: each keeps some 25 KiB until the consumer ends.
  static let topicsOfReader = 100
  /// How long the ends of partitions stand still, in milliseconds, and how often they are looked at.
  private static let stillness = 200
  private static let stillnessLimit = 5
  /// Milliseconds between two questions about a topic.
  private static let interval = 500
  /// The attempt at which that is told.
  private static let loudAttempt = 4

  private let settings: KafkaSettings
  private let after: LSN
  private let patience: Int
  private let metrics: RelayMetrics
  private let log: Log
  private var reader: TailReader?
  private var topics: [String: TopicTail] = [:]
  /// The topic that was asked about last, and its newest event.
  private var lastTopic = TopicMemory()
  private var lastNewest: EventSequence?
  private var attempts: [String: Int] = [:]
  private var spent = 0
  private var kept = 0
  /// The ends have stood still once.
  private(set) var isStill = false
  /// A topic was missing when asked for twice, half a second apart: no other needs to be asked for twice. A broker that
  /// has just started may not know its topics yet.
  private(set) var knowsTopics = false
  private var hasTold = false

  public private(set) var retryTime = MonotonicTime(nanoseconds: 0)
  public private(set) var hasBlocked = false

  /// - Parameters:
  ///   - after: where the stream starts. Events of transactions that committed before it are of no interest.
  ///   - patience: how long a topic's first sight may block, in milliseconds.
  public init(settings: KafkaSettings, after: LSN, patience: Int, metrics: RelayMetrics, log: Log) {
    self.settings = settings
    self.after = after
    self.patience = min(5000, patience)
    self.metrics = metrics
    self.log = log
  }

  deinit { metrics.busyWith = nil }

  /// Whether a consumer was made.
  var hasLooked: Bool { reader != nil }
  /// Topics that the consumer holds.
  var heldTopics: Int { reader?.topicCount ?? 0 }

  public func contains(_ record: Record, _ sequence: EventSequence) -> Bool? {
    hasBlocked = false
    // Behind the newest event everything is new: after a clean stop, all that was committed meanwhile.
    if lastNewest.map({ sequence > $0 }) ?? true, lastTopic.holds(record.topic) { return false }
    let name = String(decoding: record.topic, as: UTF8.self)
    if topics[name] == nil {
      hasBlocked = true
      metrics.busyWith = metrics.busyWith ?? Self.comparing(name)
      guard let tail = look(name) else { return nil }
      metrics.busyWith = nil
      topics[name] = tail
    }
    let newest = topics[name]?.newest
    lastTopic.remember(record.topic)
    lastNewest = newest
    guard let newest, sequence <= newest else { return false }
    let event = TailEvent(sequence, content: TailMessage.content(of: record))
    return topics[name]?.settles(event, key: TailMessage.key(record.key)) ?? false
  }

  // MARK: The first sight of a topic

  /// Nil: ask again at `retryTime`.
  private func look(_ name: String) -> TopicTail? {
    guard spent < totalPatience else {
      tell(name, "\(totalPatience / 1000) s were spent on it and on other topics")
      return TopicTail()
    }
    let reader: TailReader
    do throws(RelayError) {
      reader = try openReader()
    } catch {
      tell(name, error.message)
      return TopicTail()
    }
    let start = MonotonicTime.now()
    do throws(TailReader.Failure) {
      var partitions = try reader.partitions(of: name)
      try awaitStillness(&partitions, of: name, reader)
      let tail = read(name, partitions, reader, since: start)
      spent += start.milliseconds(until: .now(), limit: .max)
      return tail
    } catch {
      return failed(name, error, reader, since: start)
    }
  }

  private static func comparing(_ name: String) -> String {
    "comparing topic \"\(name)\" with the events since the checkpoint"
  }

  private func openReader() throws(RelayError) -> TailReader {
    if let reader, reader.topicCount < Self.topicsOfReader { return reader }
    if reader == nil { log.info("looking at what Kafka has already", ("after", after.description)) }
    let next = try TailReader(settings) { [metrics] in
      metrics.lastTurn.store(MonotonicTime.now().nanoseconds, ordering: .relaxed)
    }
    if let reader { next.patience = reader.patience }
    reader = next
    return next
  }

  private func awaitStillness(
    _ partitions: inout [TailReader.Partition], of name: String, _ reader: TailReader
  ) throws(TailReader.Failure) {
    // Nobody has written to it yet, so hardly anything is on its way there.
    if isStill || partitions.allSatisfy({ $0.high == 0 }) { return }
    for _ in 0..<Self.stillnessLimit {
      let before = partitions
      usleep(UInt32(Self.stillness) * 1000)
      try reader.measure(&partitions, of: name)
      if partitions.map(\.high) == before.map(\.high) { break }
    }
    isStill = true
  }

  private func failed(
    _ name: String, _ failure: TailReader.Failure, _ reader: TailReader, since start: MonotonicTime
  ) -> TopicTail? {
    let attempt = attempts[name, default: 0] + 1
    attempts[name] = attempt
    retryTime = MonotonicTime.now().advanced(milliseconds: Self.interval)
    switch failure {
    case .missing:
      if attempt > 1 { knowsTopics = true }
      return knowsTopics ? TopicTail() : nil
    case .notNow(let code):
      let reason = reader.trouble.map { "\(KafkaFailure.text(code)) (\($0))" } ?? KafkaFailure.text(code)
      metrics.busyWith = "\(Self.comparing(name)): the consumer has no answer: \(reason)"
      // A broker that takes longer than the first question waited would else never be heard.
      reader.patience = KafkaSink.patience(attempts: 1)
      // While the producer has no connection either, nothing can be sent, and the time does not count.
      guard metrics.kafkaBrokersUp.load(ordering: .relaxed) > 0 else {
        attempts[name] = attempt - 1
        knowsTopics = false
        return nil
      }
      if attempt == Self.loudAttempt {
        log.warning(
          "the consumer that looks at what Kafka has already gets no answer", ("topic", name),
          ("reason", reason),
          ("waits_at_most_seconds", String(totalPatience / 1000)))
      }
      spent += start.milliseconds(until: .now(), limit: .max) + Self.interval
      guard spent >= totalPatience else { return nil }
      tell(name, reason)
    case .refused(let code):
      tell(name, code)
    }
    return TopicTail()
  }

  // MARK: Reading

  private func read(
    _ name: String, _ partitions: [TailReader.Partition], _ reader: TailReader, since start: MonotonicTime
  ) -> TopicTail {
    let deadline = start.advanced(milliseconds: min(patience, totalPatience - spent))
    var topic = TopicTail()
    var first = 0
    while first < partitions.count {
      let group = partitions[first..<min(first + Self.groupSize, partitions.count)]
      for tail in read(name, group, reader, until: deadline).values { topic.add(tail) }
      kept += topic.events.count
      first += Self.groupSize
    }
    log.debug(
      "read a topic's tail", ("topic", name), ("events", String(topic.events.count)),
      ("milliseconds", String(start.milliseconds(until: .now(), limit: .max))))
    return topic
  }

  /// Reads as far back as it takes, each time from a place that lies further back to the end.
  /// - Returns: by partition, the tails that are complete up to the end.
  private func read(
    _ name: String, _ group: ArraySlice<TailReader.Partition>, _ reader: TailReader,
    until deadline: MonotonicTime
  ) -> [Int32: PartitionTail] {
    var tails: [Int32: PartitionTail] = [:]
    var ranges = group.map { (partition: $0, start: TailReach.start(low: $0.low, high: $0.high)) }
    while !ranges.isEmpty {
      let readings = reader.read(
        ranges, of: name, after: after, room: Self.eventLimit - kept, until: deadline)
      ranges = []
      for reading in readings {
        let partition = reading.partition
        switch reading.end {
        case .complete:
          tails[partition.number] = reading.tail
          let next = TailReach.next(
            start: reading.start, low: partition.low, high: partition.high, oldest: reading.tail.oldest,
            after: after)
          switch next {
          case .enough: break
          case .further(let start): ranges.append((partition: partition, start: start))
          case .beyondLimit: tell(name, "its last \(TailReach.limit) messages do not reach back far enough")
          }
        case .failed(let code): tell(name, code)
        case .outOfRoom: tell(name, "more than \(Self.eventLimit) events would have to be kept")
        case nil: tell(name, "its tail could not be read in \(patience) ms")
        }
      }
    }
    return tails
  }

  // MARK: What is not clear

  private func tell(_ name: String, _ code: rd_kafka_resp_err_t) {
    let isDenied = code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED
    tell(
      name, KafkaFailure.text(code),
      remedy: isDenied ? KafkaFailure.readGrant(name, broker: settings.commandBroker) : nil)
  }

  /// Once for each start.
  private func tell(_ name: String, _ reason: String, remedy: String? = nil) {
    let fields = [("topic", name), ("reason", reason)] + (remedy.map { [("remedy", $0)] } ?? [])
    log.write(
      hasTold ? .debug : .notice,
      "what Kafka has already is not clear: events since the checkpoint may be sent twice", fields)
    hasTold = true
  }
}
