// Owns: what a replay, a backfill and a recovery have in common: a source with an end, a target, an outcome.
// Must not know: where rows come from, how they are relayed.
import PostgresSource
import RelayCore

/// Where a job's records go.
enum JobTarget: Equatable, Sendable {
  case kafka
  /// A file of JSON lines: created for a new job, appended to for one that goes on.
  case file(String)
  /// JSON lines. What a reader took of them is not known, so such a job cannot be resumed.
  case standardOutput
  /// Nowhere: they are counted.
  case count

  /// True where it is known what arrived, so that an interrupted job can go on.
  var isResumable: Bool {
    switch self {
    case .kafka, .file: true
    case .standardOutput, .count: false
    }
  }
}

/// One run of a command that relays a source to its end.
struct Job: Sendable {
  /// `replay`, `backfill` or `recover`.
  var command: String
  /// For messages: `replaying`.
  var verb: String
  var configuration: Configuration
  var options = RelayOptions()
  var target = JobTarget.kafka
  /// Events a second. Nil: as fast as it goes.
  var rate: Int?
  /// Everything that is needed to do the same again: kept in `outboxd.job`.
  var request: JSONValue
  /// The interrupted job that this one goes on with.
  var resumed: JobRecord?
  /// The command line that goes on after an interruption, from the job's number. Nil: it is begun again, and is not
  /// kept in `outboxd.job`.
  var resumeCommand: (@Sendable (Int64) -> String)?
  /// Connects to Postgres and hangs up. Called on the relay's thread, where the server has ended the source's connection.
  var reach: @Sendable (_ settings: PostgresSettings, _ stop: StopSignal) throws(RelayError) -> Void = {
    (settings, stop) throws(RelayError) in
    _ = try SQLConnection(settings, applicationName: "outboxd job", stop: stop)
  }
  /// Called on the relay's thread, for the first time and after each loss of the connection.
  /// - Parameter position: what `BoundedSource.position` said, nil for the beginning.
  var open:
    @Sendable (_ position: String?, _ stop: StopSignal, _ log: Log) throws(RelayError) -> any BoundedSource
}

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
}
