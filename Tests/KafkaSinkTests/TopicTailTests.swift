import RelayCore
import Testing

@testable import KafkaSink

private func event(_ commit: UInt64, _ index: UInt32 = 0, content: Int = 0) -> TailEvent {
  TailEvent(EventSequence(commitLSN: LSN(commit), index: index), content: content)
}

private final class Topic {
  private var tail = TopicTail()

  /// Reads `events` in this order; a key for each.
  init(after: UInt64 = 100, _ events: [(TailEvent, Int?)]) {
    var partition = PartitionTail(after: LSN(after))
    for (event, key) in events { partition.add(event, key: key) }
    tail.add(partition)
  }

  func find(_ event: TailEvent, key: Int?) -> TopicTail.Finding { tail.find(event, key: key) }
  func settles(_ event: TailEvent, key: Int?) -> Bool { find(event, key: key) == .there }
}

@Suite struct TopicTailTests {
  @Test func `an event counts where place and content are the same`() {
    let tail = Topic([(event(100, 0, content: 7), 1), (event(100, 1, content: 8), 1)])
    #expect(tail.settles(event(100, 0, content: 7), key: 1))
    #expect(tail.settles(event(100, 1, content: 8), key: 1))
    for other in [event(100, 0, content: 8), event(101, 0, content: 7), event(100, 2, content: 8)] {
      #expect(!tail.settles(other, key: 1))
    }
  }

  @Test func `what is older than the checkpoint is not kept`() {
    var partition = PartitionTail(after: LSN(100))
    partition.add(event(99), key: 1)
    partition.add(event(100), key: 1)
    #expect(partition.count == 1)
    #expect(partition.oldest == event(99).sequence)
  }

  @Test func `once an event of a key is sent, all later ones of the key are`() {
    // Compaction took the older event of the key 1 away.
    let tail = Topic([(event(102), 1), (event(103), 2), (event(104), nil)])
    #expect(!tail.settles(event(101), key: 1))
    #expect(!tail.settles(event(102), key: 1))
    #expect(tail.settles(event(103), key: 2))
    #expect(tail.settles(event(104), key: nil))
  }

  @Test func `an event that an older one of its key follows is sent once more`() {
    let tail = Topic([(event(101), 1), (event(102), 1), (event(103), 2), (event(101), 1)])
    #expect(tail.settles(event(101), key: 1))
    #expect(!tail.settles(event(102), key: 1))
    #expect(tail.settles(event(103), key: 2))
    // Also where the older one is of before the checkpoint.
    let early = Topic([(event(101), 1), (event(99), 1), (event(102), 1)])
    #expect(!early.settles(event(101), key: 1))
    #expect(!early.settles(event(102), key: 1))
  }

  @Test func `it is told apart why an event is not settled`() {
    let tail = Topic([
      (event(101), 1), (event(103, content: 7), 2), (event(105), 3), (event(106), 4), (event(105), 4),
    ])
    #expect(tail.find(event(102), key: 1) == .missing)
    #expect(tail.find(event(101), key: 1) == .again)
    #expect(tail.find(event(103, content: 8), key: 2) == .changed)
    #expect(tail.find(event(105), key: 3) == .there)
    #expect(tail.find(event(106), key: 4) == .again)
    #expect(tail.find(event(107), key: 1) == .beyond)
  }

  @Test func `a log that was written twice from the start of the window is whole`() {
    let tail = Topic([
      (event(101), 1), (event(102), 1), (event(101), 1), (event(102), 1), (event(103), 1),
    ])
    for commit in UInt64(101)...103 { #expect(tail.settles(event(commit), key: 1)) }
    // The null key orders nothing.
    let unordered = Topic([(event(102), nil), (event(101), nil)])
    #expect(unordered.settles(event(101), key: nil))
    #expect(unordered.settles(event(102), key: nil))
  }

  @Test func `reading goes back until a message of before the checkpoint`() {
    func next(_ start: Int64, low: Int64 = 0, high: Int64 = 1_000_000, oldest: UInt64?) -> TailReach {
      TailReach.next(
        start: start, low: low, high: high, oldest: oldest.map { event($0).sequence }, after: LSN(100))
    }
    #expect(TailReach.start(low: 0, high: 1_000_000) == 999_000)
    #expect(TailReach.start(low: 0, high: 10) == 0)
    #expect(TailReach.start(low: 5, high: 5) == 5)
    #expect(next(999_000, oldest: 99) == .enough)
    #expect(next(999_000, oldest: 100) == .further(from: 992_000))
    #expect(next(999_000, oldest: nil) == .further(from: 992_000))
    #expect(next(992_000, oldest: nil) == .foreign)
    #expect(next(992_000, oldest: 100) == .further(from: 936_000))
    #expect(next(936_000, oldest: 100) == .further(from: 800_000))
    #expect(next(800_000, oldest: 100) == .beyondLimit)
    #expect(next(999_000, low: 998_000, oldest: 100) == .further(from: 998_000))
    #expect(next(998_000, low: 998_000, oldest: 100) == .enough)
  }
}
