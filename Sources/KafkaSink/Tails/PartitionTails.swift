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
/// It counts as not delivered only where that is proved: the whole tail was read, back to an event of before the
/// checkpoint or to the first message that there is, no message in between is gone, and the former process made its
/// events as this one does. All else may come twice: the first such event of a topic is told of, with the reason. What
/// nobody can see is a topic that was deleted, and a partition that was emptied, since: they count as empty.
///
/// outboxd writes no transactions, and its messages stay whatever becomes of others' transactions. Yet behind the
/// beginning of an open one (the last stable offset) Kafka does not tell whose message belongs to it, and a copy of an
/// event that is aborted later is nowhere. So nothing is proved of a partition that has one.
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
  /// Topics that are compared. The events of others may come twice.
  private static let topicLimit = 10_000
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
  /// How long an open transaction is waited for, in milliseconds.
  private static let transactionPatience = 1000

  private let settings: KafkaSettings
  private let after: LSN
  private let through: LSN
  /// Nothing was sent that is not acknowledged: what is not found cannot be there.
  private let isSettled: Bool
  /// Why what is not found may be there all the same.
  private let doubt: TopicTail.Doubt?
  private let patience: Int
  private let metrics: RelayMetrics
  private let log: Log
  /// One tells where partitions end, the other reads as consumers do that want no aborted messages.
  private var readers: (ends: TailReader, log: TailReader)?
  private var topics: [String: TopicTail] = [:]
  /// The topic that was asked about last, and its newest event.
  private let lastTopic = TopicMemory()
  private var lastNewest: EventSequence?
  /// What is answered for an event behind it, once one was asked for.
  private var lastBeyond: Recognition?
  private var attempts: [String: Int] = [:]
  private var spent = 0
  private var kept = 0
  /// The ends have stood still once.
  private(set) var isStill = false
  /// A topic was missing when asked for twice, half a second apart: no other needs to be asked for twice. A broker that
  /// has just started may not know its topics yet.
  private(set) var knowsTopics = false
  /// Topics that were told of.
  private var told: Set<String> = []

  public private(set) var hasBlocked = false

  /// - Parameters:
  ///   - after: where the stream starts. Events of transactions that committed before it are of no interest.
  ///   - through: the last commit LSN that is asked about.
  ///   - isSettled: the former process has ended with everything acknowledged and confirmed.
  ///   - doubt: a reason why nothing that is not found is proved not to have been sent.
  ///   - patience: how long a topic's first sight may block, in milliseconds.
  public init(
    settings: KafkaSettings, after: LSN, through: LSN, isSettled: Bool = false, doubt: String? = nil,
    patience: Int, metrics: RelayMetrics, log: Log
  ) {
    self.settings = settings
    self.after = after
    self.through = through
    self.isSettled = isSettled
    self.doubt = doubt.map { TopicTail.Doubt(reason: $0) }
    self.patience = min(5000, patience)
    self.metrics = metrics
    self.log = log
  }

  /// Whether a consumer was made.
  var hasLooked: Bool { readers != nil }
  /// Topics that the consumer holds.
  var heldTopics: Int { readers?.ends.topicCount ?? 0 }

  public func recognize(_ record: Record, _ sequence: EventSequence) -> Recognition {
    hasBlocked = false
    // Behind the newest event there is none: after a clean stop, all that was committed meanwhile.
    if let lastBeyond, lastNewest.map({ sequence > $0 }) ?? true, lastTopic.topic(of: record.topic) != nil {
      return lastBeyond
    }
    let name = String(decoding: record.topic, as: UTF8.self)
    if topics[name] == nil {
      guard topics.count < Self.topicLimit else { return tooManyTopics() }
      hasBlocked = true
      switch examine(name) {
      case .tail(let tail): topics[name] = tail
      case .later(let reason):
        return .wait(
          GateWait(
            for: metrics.kafkaBrokersUp.load(ordering: .relaxed) == 0 ? "Kafka" : "the comparison with Kafka",
            reason,
            until: MonotonicTime.now().advanced(milliseconds: Self.interval)))
      }
    }
    let newest = topics[name]?.newest
    lastTopic.remember(record.topic, of: record.topic)
    lastNewest = newest
    guard let newest, sequence <= newest else {
      let answer = answer(name, to: .beyond)
      lastBeyond = answer
      return answer
    }
    lastBeyond = nil
    let event = TailEvent(sequence, content: TailMessage.content(of: record))
    return answer(name, to: topics[name]?.find(event, key: TailMessage.key(record.key)) ?? .beyond)
  }

  /// What follows from a finding. The first event of a topic that may come twice is told of.
  private func answer(_ name: String, to finding: TopicTail.Finding) -> Recognition {
    let topic = topics[name]
    switch finding {
    case .there: return .there
    case .again:
      tell(name, .init(reason: "an older event of the same key is sent again, and its later ones after it"))
      return .unknown
    case .changed:
      tell(name, Self.changed)
      return .unknown
    case .missing, .beyond:
      let doubt = topic?.doubt ?? (finding == .missing && topic?.hasHoles == true ? Self.holes : nil)
      guard !isSettled, let doubt else { return .absent }
      tell(name, doubt)
      return .unknown
    }
  }

  private static let changed = TopicTail.Doubt(
    reason:
      "it has other bytes at the place of an event: the mapping, the content mode or the table was changed, or "
      + "another server writes to it")
  private static let holes = TopicTail.Doubt(
    reason: "messages of its tail are gone, by compaction or retention, or belong to aborted transactions")

  // MARK: The first sight of a topic

  private enum Examination {
    case tail(TopicTail)
    /// Kafka does not answer now; the reason.
    case later(String)
  }

  /// The reason is shown while this blocks.
  private func examine(_ name: String) -> Examination {
    metrics.holding(for: Self.comparing(name)) { firstSight(of: name) }
  }

  private func firstSight(of name: String) -> Examination {
    guard spent < totalPatience else {
      return unclear("the limit of \(totalPatience / 1000) s for all topics was reached")
    }
    let readers: (ends: TailReader, log: TailReader)
    do throws(RelayError) {
      readers = try openReaders()
    } catch {
      return unclear(error.message, remedy: error.remedy)
    }
    let start = MonotonicTime.now()
    do throws(TailReader.Failure) {
      var partitions = try readers.ends.partitions(of: name)
      try awaitStillness(&partitions, of: name, readers.ends)
      let tail = read(name, partitions, readers.log, since: start)
      spent += start.milliseconds(until: .now(), limit: .max)
      return .tail(tail)
    } catch {
      return failed(name, error, readers.ends, since: start)
    }
  }

  private static func comparing(_ name: String) -> String {
    "comparing topic \"\(name)\" with the events since the checkpoint"
  }

  private func openReaders() throws(RelayError) -> (ends: TailReader, log: TailReader) {
    if let readers, readers.ends.topicCount < Self.topicsOfReader { return readers }
    if readers == nil { log.info("checking which events Kafka already has", ("after", after.description)) }
    func open(_ isolation: TailReader.Isolation) throws(RelayError) -> TailReader {
      try TailReader(settings, isolation) { [metrics] in
        metrics.lastTurn.store(MonotonicTime.now().nanoseconds, ordering: .relaxed)
      }
    }
    let next = (ends: try open(.uncommitted), log: try open(.committed))
    if let readers { next.ends.patience = readers.ends.patience }
    readers = next
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
  ) -> Examination {
    let attempt = attempts[name, default: 0] + 1
    attempts[name] = attempt
    switch failure {
    case .missing:
      if attempt > 1 { knowsTopics = true }
      return knowsTopics ? .tail(TopicTail(doubt: doubt)) : .later(Self.comparing(name))
    case .notNow(let code):
      let reason = reader.trouble.map { "\(KafkaFailure.text(code)) (\($0))" } ?? KafkaFailure.text(code)
      let wait = "\(Self.comparing(name)): the consumer has no answer: \(reason)"
      // A broker that takes longer than the first question waited would else never be heard.
      reader.patience = KafkaSink.patience(attempts: 1)
      // While the producer has no connection either, nothing can be sent, and the time does not count.
      guard metrics.kafkaBrokersUp.load(ordering: .relaxed) > 0 else {
        attempts[name] = attempt - 1
        knowsTopics = false
        return .later(wait)
      }
      if attempt == Self.loudAttempt {
        log.warning(
          "the consumer that checks which events Kafka already has gets no answer", ("topic", name),
          ("reason", reason),
          ("waits_at_most_seconds", String(totalPatience / 1000)))
      }
      spent += start.milliseconds(until: .now(), limit: .max) + Self.interval
      return spent >= totalPatience ? unclear(reason) : .later(wait)
    case .refused(let code):
      return .tail(TopicTail(doubt: refusal(name, code)))
    }
  }

  // MARK: Reading

  private func read(
    _ name: String, _ partitions: [TailReader.Partition], _ reader: TailReader, since start: MonotonicTime
  ) -> TopicTail {
    // The other consumer may have to connect yet.
    let deadline = MonotonicTime.now().advanced(milliseconds: min(patience, totalPatience - spent))
    var topic = TopicTail(doubt: doubt)
    var first = 0
    while first < partitions.count {
      let group = partitions[first..<min(first + Self.groupSize, partitions.count)]
      for tail in read(name, group, reader, until: deadline, &topic).values { topic.add(tail) }
      kept += topic.events.count
      first += Self.groupSize
    }
    log.debug(
      "read a topic's tail", ("topic", name), ("events", String(topic.events.count)),
      ("milliseconds", String(start.milliseconds(until: .now(), limit: .max))))
    return topic
  }

  /// Reads as far back as it takes, each time from a place that lies further back to the end. What cannot be read is
  /// the topic's doubt.
  /// - Returns: by partition, the tails that are complete up to the end.
  private func read(
    _ name: String, _ group: ArraySlice<TailReader.Partition>, _ reader: TailReader,
    until deadline: MonotonicTime, _ topic: inout TopicTail
  ) -> [Int32: PartitionTail] {
    let transactionEnd = MonotonicTime.now().advanced(milliseconds: Self.transactionPatience)
    var tails: [Int32: PartitionTail] = [:]
    var ranges = group.map { (partition: $0, start: TailReach.start(low: $0.low, high: $0.high)) }
    while !ranges.isEmpty {
      let readings = reader.read(
        ranges, of: name, after: after, room: Self.eventLimit - kept, until: deadline)
      ranges = []
      for reading in readings {
        if reading.end == .complete { tails[reading.partition.number] = reading.tail }
        if let start = nextStart(name, reading, transactionEnd: transactionEnd, &topic) {
          ranges.append((partition: reading.partition, start: start))
        }
      }
    }
    return tails
  }

  /// Where the partition is to be read from next; nil where that was all.
  private func nextStart(
    _ name: String, _ reading: TailReader.Reading, transactionEnd: MonotonicTime, _ topic: inout TopicTail
  ) -> Int64? {
    switch reading.end {
    case .complete: return nextStart(reading, &topic)
    case .openTransaction(let offset):
      if MonotonicTime.now() < transactionEnd {
        usleep(50_000)
        return reading.start
      }
      topic.add(
        doubt: "partition \(reading.partition.number) has an open transaction of another producer at offset "
          + "\(offset), and what lies behind it cannot be told")
    case .failed(let code): topic.doubt = topic.doubt ?? refusal(name, code)
    case .outOfRoom: topic.add(doubt: "it needs more than \(Self.eventLimit) events in memory")
    case nil: topic.add(doubt: "its tail could not be read within \(patience) ms")
    }
    return nil
  }

  /// The same for what was read to its end.
  private func nextStart(_ reading: TailReader.Reading, _ topic: inout TopicTail) -> Int64? {
    let partition = reading.partition
    let reach = TailReach.next(
      start: reading.start, low: partition.low, high: partition.high, oldest: reading.tail.oldest,
      after: after)
    switch reach {
    case .enough:
      if partition.high - reading.start > reading.messages { topic.hasHoles = true }
      if reading.start <= partition.low, partition.low > 0, let oldest = reading.tail.oldest,
        oldest.commitLSN >= after
      {
        topic.add(
          doubt:
            "its messages of before offset \(partition.low) are gone, by retention or because they were deleted"
        )
      }
    case .further(let start): return start
    case .foreign:
      topic.add(
        doubt: "its last \(TailReach.foreignLimit) messages of a partition are all another producer's")
    case .beyondLimit:
      topic.add(doubt: "its last \(TailReach.limit) messages of a partition do not reach back far enough")
    }
    return nil
  }

  // MARK: What is not clear

  private func unclear(_ reason: String, remedy: String? = nil) -> Examination {
    .tail(TopicTail(doubt: .init(reason: reason, remedy: remedy)))
  }

  private func tooManyTopics() -> Recognition {
    tell("other", .init(reason: "more than \(Self.topicLimit) topics would have to be compared"))
    return .unknown
  }

  private func refusal(_ name: String, _ code: rd_kafka_resp_err_t) -> TopicTail.Doubt {
    let isDenied = code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED
    return .init(
      reason: KafkaFailure.text(code),
      remedy: isDenied ? KafkaFailure.readGrant(name, broker: settings.commandBroker) : nil)
  }

  /// Once for each topic.
  private func tell(_ name: String, _ doubt: TopicTail.Doubt) {
    guard told.insert(name).inserted else { return }
    log.write(
      .notice, "cannot tell which events Kafka already has: events since the checkpoint may be sent twice",
      [
        ("topic", name), ("reason", doubt.reason), ("from", after.description),
        ("through", through.description),
      ] + (doubt.remedy.map { [("remedy", $0)] } ?? []), isRepeat: false)
  }
}
