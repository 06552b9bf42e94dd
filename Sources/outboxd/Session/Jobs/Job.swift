// Owns: what a replay, a backfill and a recovery have in common: a source with an end, a target, an outcome.
// Must not know: where rows come from, how they are relayed.
import PostgresSource
import RelayCore

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
