// Owns: what a session asks of its use, the daemon or a job.
// Must not know: either of them.
import RelayCore

/// What a session is for. Confined to the relay's thread.
protocol SessionUse: AnyObject {
  var configuration: Configuration { get }
  var options: RelayOptions { get }
  var store: any CheckpointStore { get }
  var reactions: ReactionTable { get }
  /// Milliseconds. A transaction that is being read when a stop is requested is read on for half of them at most.
  var readingLimit: Int { get }

  /// - Parameter relay: what the source follows on; nil for the first one.
  /// - Throws: whatever opening a source throws; the table of reactions decides.
  func open(after relay: Relay?) throws(RelayError) -> SessionSource
  /// Tells the relay, before it has a sink for the source just opened, what must be asked about its records.
  func examine(_ relay: Relay)
  /// - Throws: `sinkFailed`, `sinkDenied`, `configurationInvalid`; what opening a file throws.
  func makeSink() throws(RelayError) -> any RecordSink
  /// The source is lost, or another process has it.
  /// - Returns: what ends the session instead of another connection; nil: it goes on.
  func sourceLost(_ error: RelayError, _ relay: Relay?) -> RelayError?
  /// The relay has stopped.
  /// - Parameter deadline: of the process's end.
  func finished(_ relay: Relay, isDrained: Bool, deadline: MonotonicTime)
  /// The error that ends the session, with what an operator can do.
  /// - Parameter isOfRow: a row or its record caused it, and the source is sound.
  func explained(_ error: RelayError, isOfRow: Bool) -> RelayError
}

/// A source that was opened for a session.
struct SessionSource {
  let changes: any ChangeSource
  let database: String
  /// Where the relay begins again. Nil: it continues where it was.
  var start: LSN?
  /// What is in flight belongs to a history that has ended.
  var isOfOtherHistory = false
}
