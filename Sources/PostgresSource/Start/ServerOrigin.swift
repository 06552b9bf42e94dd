// Owns: whether this server is the one that published what Kafka holds, and that an operator said so.
// Must not know: Kafka, how events were found there.
//
// A copy of a server (a storage snapshot, a clone) has the slot, the journal and the system identifier of its original,
// and would publish with the same source and with sequences that the original uses for other events. What betrays it: an
// event of its source in Kafka that committed beyond the end of its own WAL. On the original no such event can be: what
// was published had been flushed before, and its WAL never goes back. Except where the original itself was restored, or
// failed over to a standby that lacked the last transactions, or was replaced by a server with a WAL of its own. Then an
// operator runs `outboxd recover`, which remembers when that was: events that Kafka got before are of the former
// history. Events that it gets afterwards are somebody else's again, also for a copy that was made later and has the
// same memory. Clocks of two hosts are compared, so a minute is left between. What Kafka got before outboxd
// began to keep this memory is no sign of a copy either: it may be of a history from before an earlier restore.
public import RelayCore

public struct ServerOrigin: Equatable, Sendable {
  /// Everything that this server has committed lies before it.
  public var walEnd: LSN
  /// When an operator said last that this server is the original.
  public var acceptedAt: PostgresMicroseconds?
  /// When outboxd began to remember.
  public var knownUntil: PostgresMicroseconds?
  /// Nobody could say so: there is no journal to keep it.
  public var isKept = true

  public init(walEnd: LSN, acceptedAt: PostgresMicroseconds? = nil) {
    self.walEnd = walEnd
    self.acceptedAt = acceptedAt
  }

  private static let slack: Int64 = 60_000_000

  /// Whether an event with this server's source shows that another server publishes.
  /// - Parameter timestamp: when Kafka got it; nil: not known.
  public func isStrange(_ commitLSN: LSN, timestamp: PostgresMicroseconds?) -> Bool {
    guard commitLSN >= walEnd else { return false }
    if let knownUntil, let timestamp, timestamp <= knownUntil { return false }
    guard let acceptedAt, let timestamp else { return true }
    let (limit, overflow) = acceptedAt.addingReportingOverflow(Self.slack)
    return !overflow && timestamp > limit
  }

  /// What is said of such an event.
  public func fault(source: String, topic: String, _ sequence: EventSequence) -> RelayError {
    var fault = RelayError(
      .serverBehindCheckpoint,
      "topic \(topic) has an event of source \(source) that committed at \(sequence.commitLSN), beyond the end of this "
        + "server's WAL at \(walEnd): another server with the same history published it, and this one may be a copy of "
        + "it, or was restored to an earlier state; nothing was sent",
      remedy: GapRemedy.original(", for example after a restore"))
    fault.mayBeCopy = true
    return fault
  }
}

extension PostgresSource {
  /// Reads it. The end of the WAL is that of now: ask after Kafka was looked at.
  public static func serverOrigin(
    settings: PostgresSettings, stop: StopSignal
  ) throws(RelayError) -> ServerOrigin {
    let connection = try SQLConnection(settings, applicationName: "outboxd origin", stop: stop)
    let end = try connection.query(
      "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END AS wal_end"
    )
    var origin = ServerOrigin(walEnd: end[0, "wal_end"].flatMap { LSN($0) } ?? .zero)
    guard
      try CheckpointJournal(connection: connection, slot: settings.slot).facts(mode: settings.journal).isInUse
    else {
      origin.isKept = false
      return origin
    }
    let accepted = try connection.query(
      """
      SELECT \(Self.microseconds("command = 'recover' AND request ->> 'original' = 'true'")) AS accepted,
        \(Self.microseconds("command = 'origin'")) AS known
      FROM outboxd.job WHERE slot = \(SQLText.literal(settings.slot))
      """)
    origin.acceptedAt = accepted[0, "accepted"].flatMap { Int64($0) }
    origin.knownUntil = accepted[0, "known"].flatMap { Int64($0) }
    return origin
  }

  /// The newest time at which such a job was finished.
  private static func microseconds(_ condition: String) -> String {
    "(extract(epoch FROM max(finished_at) FILTER (WHERE \(condition)) - timestamptz '2000-01-01 00:00:00+00') "
      + "* 1000000)::bigint"
  }
}

extension Recovery {
  /// An operator says that this server is the original.
  public func acceptOrigin(stop: StopSignal) throws(RelayError) {
    let store = try JobStore(settings: settings, stop: stop)
    let id = try store.begin(command: "recover", request: "{\"original\": true}")
    try store.finish(id, events: 0)
  }
}

extension CheckpointJournal {
  /// Begins to remember, once: from the newest row of the history on, which is from before this process, or from now.
  func rememberOrigin() throws(RelayError) {
    let slot = SQLText.literal(slot)
    try connection.query(
      """
      INSERT INTO outboxd.job (slot, command, request, started_at, finished_at)
      SELECT \(slot), 'origin', '{}', time, time FROM (SELECT coalesce(max(recorded_at), clock_timestamp()) AS time
        FROM outboxd.checkpoint_history WHERE slot = \(slot)) AS history
      WHERE NOT EXISTS (SELECT FROM outboxd.job WHERE slot = \(slot) AND command = 'origin')
      """)
  }
}
