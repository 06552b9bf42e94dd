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
  var events: some Sequence<TailEvent> { entries.lazy.filter { !$0.isVoid }.map(\.event) }

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
  case further(from: Int64)
  /// There is more than is worth reading.
  case beyondLimit

  /// The first look, in offsets: about what is in flight at most.
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
    if oldest == nil, high - start >= foreignLimit { return .enough }
    if high - start >= limit { return .beyondLimit }
    return .further(from: max(low, high - min(limit, (high - start) * factor)))
  }
}

/// What is known of a topic.
struct TopicTail {
  private(set) var events: Set<TailEvent> = []
  /// The highest place of an event there: none behind it can be there. Nil where there is no event.
  private(set) var newest: EventSequence?
  /// By hash: the keys of which an event is sent. Their later events are sent too, so that none comes before it.
  private var sentKeys: Set<Int> = []
  /// Distinct keys that are remembered at most.
  static let keyLimit = 500_000

  mutating func add(_ partition: PartitionTail) {
    for event in partition.events {
      events.insert(event)
      newest = max(newest ?? event.sequence, event.sequence)
    }
  }

  /// True where the event is there. What is not, is taken for sent from now on.
  mutating func settles(_ event: TailEvent, key: Int?) -> Bool {
    guard let last = newest, event.sequence <= last else { return false }
    if events.contains(event), key.map({ !sentKeys.contains($0) }) ?? true { return true }
    if let key { sentKeys.insert(key) }
    if sentKeys.count > Self.keyLimit {
      events = []
      newest = nil
      sentKeys = []
    }
    return false
  }
}
