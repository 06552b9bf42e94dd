// Owns: what became of a job.
// Must not know: how it is told.
import RelayCore
import Synchronization

/// What became of a job.
struct JobOutcome: Sendable {
  /// The number in `outboxd.job`; nil for a job that is not kept there.
  var id: Int64?
  /// What ended it early: `interrupted` for a signal. Nil: it came to its end, and everything is acknowledged.
  var failure: RelayError?
  /// Rows that were read by this run, and those of them that were selected.
  var read: UInt64 = 0
  var selected: UInt64 = 0
  /// Records that were acknowledged in this run, by topic too.
  var sent: UInt64 = 0
  var topics: [String: UInt64] = [:]
  /// Those that lie before the place where the job goes on: all others come again.
  var settled: UInt64 = 0
  /// Records that lay before that place in the runs before this one.
  var sentBefore: UInt64 = 0
  var milliseconds = 0
  var isResumed = false
  /// What a dry run counted.
  var counts: EventCounts?

  var isComplete: Bool { failure == nil }

  /// Records a second.
  var rate: Double { milliseconds == 0 ? 0 : Double(sent) * 1000 / Double(milliseconds) }

  /// Takes the counts of the relay's thread, which has ended.
  mutating func note(_ metrics: RelayMetrics, milliseconds: Int) {
    read = metrics.eventsReceived.load(ordering: .relaxed)
    selected = read &- metrics.eventsUnselected.load(ordering: .relaxed)
    sent = metrics.eventsDelivered.load(ordering: .relaxed)
    settled = metrics.eventsSettled.load(ordering: .relaxed)
    topics = counts?.topics ?? metrics.topics
    self.milliseconds = milliseconds
  }
}
