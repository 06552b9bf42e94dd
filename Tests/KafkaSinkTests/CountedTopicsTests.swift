// How many topics the metrics name, however many rows name.
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
}
