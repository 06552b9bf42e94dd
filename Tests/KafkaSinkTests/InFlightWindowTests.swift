// Owns: when more records may be in flight.
import RelayCore
import Testing

@testable import KafkaSink

@Suite struct InFlightWindowTests {
  /// A sink that delivers so many records a second at a window.
  private struct Sink {
    var window = InFlightWindow(highest: 16_384)
    var now = MonotonicTime(nanoseconds: 5_000_000_000)
    var delivered: UInt64 = 0

    /// One interval, in which the window held back or did not.
    mutating func interval(rate: (Int) -> Int, isFull: Bool = true) {
      let hasRoom = !window.holdsBack(2047)
      #expect(hasRoom)
      if isFull {
        let answers = [window.limit - 1, window.limit].map { window.holdsBack($0) }
        #expect(answers == [false, true])
      }
      now = now.advanced(milliseconds: 500)
      delivered += UInt64(rate(window.limit) / 2)
      window.observe(delivered: delivered, now: now)
    }
  }

  @Test func `without adapting, the window is the queue`() {
    var window = InFlightWindow(highest: 16_384, isAdaptive: false)
    for second in 1...100 {
      let answers = [window.holdsBack(16_383), window.holdsBack(16_384)]
      #expect(answers == [false, true] && window.limit == 16_384)
      window.observe(delivered: 0, now: MonotonicTime(nanoseconds: 0).advanced(milliseconds: second * 1_000))
    }
  }

  @Test func `where more in flight brings no more, the window stays what the cache holds`() {
    var sink = Sink()
    var limits: [Int] = []
    for _ in 0..<120 {
      sink.interval { _ in 200_000 }
      limits.append(sink.window.limit)
    }
    #expect(Set(limits) == [2048, 4096])
    // A trial of a second each thirty seconds.
    #expect((2...6).contains(limits.count { $0 == 4096 }))
    #expect(sink.window.limit == 2048)
  }

  @Test func `a broker that wakes up is no reason for more in flight`() {
    var sink = Sink()
    for step in 1...4 { sink.interval { _ in step * 50_000 } }
    for _ in 0..<20 { sink.interval { _ in 200_000 } }
    #expect(sink.window.limit == 2048)
  }

  @Test func `a Kafka that is far away gets all that the queue holds`() {
    var sink = Sink()
    for _ in 0..<20 { sink.interval { $0 * 50 } }
    #expect(sink.window.limit == 16_384)
    for _ in 0..<100 { sink.interval { $0 * 50 } }
    #expect(sink.window.limit == 16_384)
  }

  @Test func `the window opens as far as it brings something`() {
    var sink = Sink()
    for _ in 0..<60 { sink.interval { min($0, 4_500) * 50 } }
    #expect(sink.window.limit == 4096)
  }

  @Test func `the queue is the limit in any case`() {
    var sink = Sink()
    for _ in 0..<20 { sink.interval { $0 * 50 } }
    let answers = [16_383, 16_384].map { sink.window.holdsBack($0) }
    #expect(answers == [false, true])
  }

  @Test func `a trial is judged by what was sent in it`() {
    var sink = Sink()
    var rates: [Int] = [0, 0]
    for _ in 0..<20 {
      sink.interval { limit in
        // What is delivered was sent half a second before.
        rates.append(limit * 50)
        return rates[rates.count - 2]
      }
    }
    #expect(sink.window.limit == 16_384)
  }

  @Test func `a window that is no longer needed starts over`() {
    var sink = Sink()
    for _ in 0..<20 { sink.interval { $0 * 50 } }
    sink.interval(rate: { _ in 1_000 }, isFull: false)
    #expect(sink.window.limit == 2048)
  }

  @Test func `many partitions find room for requests that are worth it`() {
    var window = InFlightWindow(highest: 16_384)
    var limits: [Int] = []
    for partitions in [4, 32, 100, 1_000] {
      window.serve(partitions: partitions)
      limits.append(window.limit)
    }
    #expect(limits == [2048, 2048, 6400, 16_384])
    var small = InFlightWindow(highest: 10)
    small.serve(partitions: 1_000)
    #expect(small.limit == 10)
  }

  @Test func `partitions that come during a trial keep their room after it`() {
    var sink = Sink()
    while sink.window.limit == 2048 { sink.interval { _ in 200_000 } }
    sink.window.serve(partitions: 100)
    for _ in 0..<3 { sink.interval { _ in 200_000 } }
    #expect(sink.window.limit == 6400)
  }

  @Test func `a queue that the operator made small is never exceeded`() {
    var window = InFlightWindow(highest: 10)
    let answers = [9, 10].map { window.holdsBack($0) }
    #expect(answers == [false, true])
    window.observe(delivered: 100, now: MonotonicTime(nanoseconds: 9_000_000_000))
    #expect(window.limit == 10)
  }
}
