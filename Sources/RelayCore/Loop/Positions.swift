// Owns: how far the relay has come in the WAL, and what the source may be told of it.
// Must not know: transactions, records, where a checkpoint is written.
import Synchronization

/// The four positions of a session: received ≥ delivered ≥ journaled ≥ confirmed. A crash loses no event as long as the
/// source is told no more than the journal has, and the journal no more than Kafka has.
struct Positions {
  /// The end of the last transaction, or the newest position that the source named between transactions.
  private(set) var received = LSN.zero
  /// Kafka has acknowledged everything that ends at or below it.
  private(set) var delivered = LSN.zero
  /// The journal has it as its checkpoint. Zero where this session has not heard from the journal yet.
  private(set) var journaled = LSN.zero
  /// The source was told that it may let go of everything up to here.
  private(set) var confirmed = LSN.zero
  /// Since when something is delivered that the source must not be told of, as the journal does not have it. Nil: nothing is.
  var unconfirmedSince: MonotonicTime? { unconfirmed?.since }
  private(set) var session = CheckpointSession()

  /// What was delivered when it was last seen that the journal has all that was delivered earlier, and when that was.
  private var unconfirmed: (lsn: LSN, since: MonotonicTime)?
  private let trap: (String) -> Void

  /// - Parameter trap: called with each broken order before it is thrown. Ends a debug build.
  init(trap: @escaping (String) -> Void = { assertionFailure($0) }) { self.trap = trap }

  /// A session begins where the former one was, or at `start`: then everything before is delivered, and nothing is known
  /// of the journal.
  mutating func begin(_ session: CheckpointSession, at start: LSN? = nil) {
    self.session = session
    guard let start else { return }
    received = start
    delivered = start
    journaled = .zero
    confirmed = .zero
    unconfirmed = nil
  }

  /// A transaction ended at `end`, or the source says between transactions that it is there. A position behind changes
  /// nothing: an interrupted source begins at an older one again.
  @inline(__always)
  mutating func receive(_ end: LSN) { received = max(received, end) }

  /// Everything that ends at or below `checkpoint` is acknowledged by Kafka.
  /// - Throws: `failed` where it lies beyond what was received, or behind what was delivered.
  mutating func deliver(_ checkpoint: LSN) throws(RelayError) {
    guard checkpoint <= received else { throw broken("delivered", checkpoint, "beyond received", received) }
    guard checkpoint >= delivered else { throw broken("delivered", checkpoint, "behind", delivered) }
    delivered = checkpoint
  }

  /// Takes what the journal says. An acknowledgement of another session is refused, and one behind changes nothing.
  /// - Throws: `failed` where it lies beyond what was delivered.
  mutating func acknowledge(
    _ acknowledgement: JournalAcknowledgement, now: MonotonicTime
  ) throws(RelayError) {
    if acknowledgement.session == session {
      guard acknowledgement.lsn <= delivered else {
        throw broken("journaled", acknowledgement.lsn, "beyond delivered", delivered)
      }
      journaled = max(journaled, acknowledgement.lsn)
    }
    if let unconfirmed, journaled < unconfirmed.lsn { return }
    unconfirmed = delivered > journaled ? (delivered, now) : nil
  }

  /// What the source is to be told now.
  mutating func confirm() -> LSN {
    confirmed = journaled
    return confirmed
  }

  func publish(to metrics: RelayMetrics) {
    metrics.receivedLSN.store(received.rawValue, ordering: .relaxed)
    metrics.acknowledgedLSN.store(delivered.rawValue, ordering: .relaxed)
    metrics.confirmedLSN.store(confirmed.rawValue, ordering: .relaxed)
    metrics.unconfirmedSince.store(unconfirmedSince?.nanoseconds ?? 0, ordering: .relaxed)
  }

  private func broken(_ name: String, _ lsn: LSN, _ order: String, _ other: LSN) -> RelayError {
    let message = "positions out of order: \(name) \(lsn) is \(order) \(other)"
    trap(message)
    return RelayError(
      .failed, message,
      remedy: "Report this fault of outboxd with the log. Nothing beyond \(confirmed) was confirmed to "
        + "Postgres. Start outboxd again: it sends everything after the journal's checkpoint again.")
  }
}
