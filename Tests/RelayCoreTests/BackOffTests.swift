// Owns: the promises of the waits between tries.
import RelayCore
import Testing

@Suite struct BackOffTests {
  @Test func `waits double up to the limit, each with as much chance as certainty`() {
    var backOff = BackOff(first: 200, limit: 1_000)
    for expected in [200, 400, 800, 1_000, 1_000] {
      #expect((expected / 2...expected).contains(backOff.delay()))
    }
  }

  @Test func `a success that does not last leaves the waits as long as they were`() {
    var backOff = BackOff(first: 200, limit: 100_000, lasting: 10_000)
    var now = MonotonicTime.now()
    var longest = 0
    for _ in 0..<8 {
      backOff.succeeded(now)
      now = now.advanced(milliseconds: 9_999)
      longest = backOff.delay(now)
    }
    #expect(longest >= 12_800)
  }

  @Test func `a success that lasted begins the waits again, once`() {
    var backOff = BackOff(first: 200, limit: 100_000, lasting: 10_000)
    let start = MonotonicTime.now()
    for _ in 0..<5 { _ = backOff.delay(start) }
    backOff.succeeded(start)
    let end = start.advanced(milliseconds: 10_000)
    #expect(backOff.delay(end) <= 200)
    // What lasted then is over: long after it the waits go on doubling.
    #expect((200...400).contains(backOff.delay(end.advanced(milliseconds: 60_000))))
    #expect((400...800).contains(backOff.delay(end.advanced(milliseconds: 120_000))))
  }
}
