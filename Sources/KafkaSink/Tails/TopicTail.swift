// Owns: which events the messages read from a topic's tail prove to be delivered, and how far back a tail is read.
// Must not know: librdkafka.
import RelayCore

/// An event as it stands in a log: its place in the WAL, and a hash of all of its message.
struct TailEvent: Hashable {
  var sequence: EventSequence
  /// Of key, value and headers. Its seed differs from process to process.
  var content: Int

  init(_ sequence: EventSequence, content: Int) {
    self.sequence = sequence
    self.content = content
  }
}

/// What one partition holds of the events from `after` on, read in the order of its log.
///
/// An event is void where an older one of the same key follows it: whoever keeps the newest of a key (a compacted
/// topic, a table made of the topic) has the older one then, and gets the newer one once more.
struct PartitionTail {
  private struct Entry {
    var event: TailEvent
    var isVoid = false
    /// The entry before it of the same key, all of which are older; −1 where there is none.
    var previous: Int32
  }

  let after: LSN
  private var entries: ContiguousArray<Entry> = []
  /// By the hash of a key: its newest entry that is not void.
  private var newest: [Int: Int32] = [:]
  /// Of the first message that has a sequence.
  private(set) var oldest: EventSequence?

  init(after: LSN) { self.after = after }

  var count: Int { entries.count }
  var events: some Sequence<(event: TailEvent, isVoid: Bool)> { entries.lazy.map { ($0.event, $0.isVoid) } }

  /// - Parameter key: a hash of the message's key; nil for the null key, which orders nothing.
  mutating func add(_ event: TailEvent, key: Int?) {
    oldest = oldest ?? event.sequence
    var previous: Int32 = -1
    if let key {
      previous = newest[key] ?? -1
      while previous >= 0, entries[Int(previous)].event.sequence > event.sequence {
        entries[Int(previous)].isVoid = true
        previous = entries[Int(previous)].previous
      }
    }
    if event.sequence.commitLSN >= after {
      entries.append(Entry(event: event, previous: previous))
      previous = Int32(entries.count - 1)
    }
    if let key { newest[key] = previous >= 0 ? previous : nil }
  }
}

/// How far back a partition is read.
enum TailReach: Equatable {
  case enough
  /// As far back as is worth reading, all is somebody else's.
  case foreign
  case further(from: Int64)
  /// There is more than is worth reading.
  case beyondLimit

  /// The first read, in offsets: about what is in flight at most.
  static let first: Int64 = 1000
  static let factor: Int64 = 8
  static let limit: Int64 = 200_000
  /// Where so many messages are all somebody else's, as in a topic that outboxd has just taken over, none of ours is
  /// looked for behind them.
  static let foreignLimit = first * factor

  static func start(low: Int64, high: Int64) -> Int64 { max(low, high - first) }

  /// What follows from reading `start` to `high`.
  /// - Parameter oldest: the first sequence there; nil where no message had one.
  static func next(start: Int64, low: Int64, high: Int64, oldest: EventSequence?, after: LSN) -> TailReach {
    if start <= low { return .enough }
    if let oldest, oldest.commitLSN < after { return .enough }
    if oldest == nil, high - start >= foreignLimit { return .foreign }
    if high - start >= limit { return .beyondLimit }
    return .further(from: max(low, high - min(limit, (high - start) * factor)))
  }
}

/// What is known of a topic.
struct TopicTail {
  /// What a topic's tail says of an event.
  enum Finding: Equatable {
    case there
    /// It was there, and comes once more all the same: after an older event of its key that is sent.
    case again
    /// At its place stands an event with other bytes.
    case changed
    /// Newer ones are there, and it is not.
    case missing
    /// Newer than all that is there.
    case beyond
  }

  /// Why what was not found may be there all the same.
  struct Doubt: Equatable {
    var reason: String
    var remedy: String?
  }

  /// Nil: all of the tail was read, back to the checkpoint.
  var doubt: Doubt?
  /// Between the messages that were read, some are gone.
  var hasHoles = false
  private(set) var events: Set<TailEvent> = []
  /// The places of events and void ones, once they are asked for.
  private var places: Set<EventSequence>?
  /// Events that an older one of their key follows.
  private var void: Set<TailEvent> = []
  /// The highest place of an event there: none behind it can be there. Nil where there is no event.
  private(set) var newest: EventSequence?
  /// By hash: the keys of which an event is sent. Their later events are sent too, so that none comes before it.
  private var sentKeys: Set<Int> = []
  /// Distinct keys that are remembered at most.
  static let keyLimit = 500_000

  init(doubt: Doubt? = nil) { self.doubt = doubt }

  /// The first reason stays.
  mutating func add(doubt reason: String) { doubt = doubt ?? Doubt(reason: reason) }

  mutating func add(_ partition: PartitionTail) {
    for (event, isVoid) in partition.events {
      if isVoid { void.insert(event) } else { events.insert(event) }
      newest = max(newest ?? event.sequence, event.sequence)
    }
  }

  /// `there` where the event is settled by what Kafka holds. Any other is taken for sent from now on.
  mutating func find(_ event: TailEvent, key: Int?) -> Finding {
    guard let last = newest, event.sequence <= last else { return .beyond }
    let isThere = events.contains(event)
    if isThere, key.map({ !sentKeys.contains($0) }) ?? true { return .there }
    if let key { sentKeys.insert(key) }
    defer { if sentKeys.count > Self.keyLimit { forget() } }
    if isThere || void.contains(event) { return .again }
    let places = self.places ?? Set(events.map(\.sequence) + void.map(\.sequence))
    self.places = places
    return places.contains(event.sequence) ? .changed : .missing
  }

  private mutating func forget() {
    doubt = doubt ?? Doubt(reason: "events of more than \(Self.keyLimit) keys were sent")
    events = []
    void = []
    places = nil
    newest = nil
    sentKeys = []
  }
}
