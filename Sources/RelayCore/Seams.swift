// Owns: the seams of the loop. Everything behind them is replaceable in a test.
// Must not know: Postgres, Kafka.
import Glibc

/// Where changes come from: a replication stream, a range of WAL, or the rows of tables.
/// Confined to the relay's thread.
public protocol ChangeSource: AnyObject {
  /// A descriptor for `poll(2)`: readable when `next()` may have more.
  var descriptor: Int32 { get }
  /// True while bytes to the server wait in a buffer: poll for writability too, then call `report`.
  var wantsWrite: Bool { get }
  /// Bytes received so far. The loop paces its reading by it.
  var receivedBytes: UInt64 { get }
  /// When `report` must be called at the latest, so that the server does not hang up.
  var reportTime: MonotonicTime { get }

  /// The next change, or nil when the socket is empty. Never blocks. What it returned before is void.
  func next() throws(RelayError) -> Change?
  /// The shape that came with the last `.relation`.
  var relation: Relation { get }
  /// Whether rows of that shape may go out: nil where they may. Asked after each `.relation`, and again when the wait
  /// says so; nothing is read meanwhile.
  /// - Throws: what forbids it.
  func shapeWait() throws(RelayError) -> GateWait?
  /// What was found beside the stream that ends it; once. Asked once a turn.
  func takeFault() -> RelayError?
  /// Tells the source that everything up to `flushed` may be let go. Sends only when there is news, when
  /// the server asked, or when `reportTime` has come. `flushed` is clamped: monotone, never beyond
  /// what was received.
  func report(flushed: LSN, now: MonotonicTime) throws(RelayError)
  /// True once a source of a closed range has handed over its last change. A stream never ends by itself.
  var isAtEnd: Bool { get }
  /// Ends the stream in good order: last report, end of copy, wait for the server's end until `deadline`.
  func finish(flushed: LSN, deadline: MonotonicTime)
}

extension ChangeSource {
  public var isAtEnd: Bool { false }
  public func shapeWait() throws(RelayError) -> GateWait? { nil }
  public func takeFault() -> RelayError? { nil }
}

/// A source with an end: a range of WAL, or the rows of tables.
public protocol BoundedSource: ChangeSource {
  var database: String { get }
  /// Where to open it again so that everything after `checkpoint` comes: opaque text of 1 KiB at most. Nil where
  /// that is its beginning.
  func position(after checkpoint: LSN) -> String?
  /// About how much of it has been read, in bytes of WAL or rows; a total of 0 is not known.
  var progress: (done: UInt64, total: UInt64) { get }
}

/// What is known of an event that a process or a producer before this one may have sent.
public enum Recognition: Equatable, Sendable {
  /// Kafka holds it, byte for byte, with its `sequence`: it is not sent.
  case there
  /// Its topic does not hold it: it is sent, and comes once.
  case absent
  /// Neither is proved: it is sent, and may come twice.
  case unknown
  /// Kafka does not answer now.
  indirect case wait(GateWait)
}

/// What Kafka holds already, for the time after an unclean stop. Confined to the relay's thread.
public protocol DeliveredEvents: AnyObject {
  /// The last answer may have taken long.
  var hasBlocked: Bool { get }
  /// May block for seconds, though only for a topic seen for the first time.
  func recognize(_ record: Record, _ place: EventSequence) -> Recognition
}

/// Where nobody compares with what Kafka holds.
public final class UnexaminedEvents: DeliveredEvents {
  public let hasBlocked = false
  private var tell: (() -> Void)?

  /// - Parameter tell: called with the first event that is asked for.
  public init(tell: @escaping () -> Void) { self.tell = tell }

  public func recognize(_ record: Record, _ place: EventSequence) -> Recognition {
    tell?()
    tell = nil
    return .unknown
  }
}

/// A gate that examines where events go before the first of them is sent, and then passes all.
public protocol FirstSight: Gate {
  var isDone: Bool { get }
}

/// Where checkpoints are kept, beside the slot. Confined to the relay's thread.
public protocol CheckpointStore: AnyObject {
  /// The session that checkpoints are kept for now.
  var session: CheckpointSession { get }
  /// Hands over the newest checkpoint of `session`, and returns the newest acknowledgement. Never blocks.
  func store(_ checkpoint: LSN, in session: CheckpointSession) -> JournalAcknowledgement
  /// Hands over the last checkpoint of `session`, waits until it is written or `deadline` has come, and returns the newest
  /// acknowledgement.
  func finish(
    _ checkpoint: LSN, in session: CheckpointSession, deadline: MonotonicTime
  ) -> JournalAcknowledgement
}

/// Where records go: the last gate, and what is behind it. Confined to the relay's thread.
public protocol RecordSink: Gate {
  /// A descriptor for `poll(2)`: readable when `drain` has something.
  var descriptor: Int32 { get }

  /// Takes a record that has passed the gate (its bytes are copied), or says why not. Never blocks.
  /// - Throws: `recordRejected` where the record can never be sent, `sinkFailed` where the sink must be
  ///   rebuilt.
  func send(_ record: Record, tag: UInt64) throws(RelayError) -> SendOutcome
  /// Hands every delivery that has come to `settle`, and clears the descriptor. Never blocks.
  /// - Throws: `sinkFailed` where the sink must be rebuilt.
  func drain(_ settle: (Delivery) -> Void) throws(RelayError)
  /// Sends at once what it would hold back for company, and sleeps for so many microseconds.
  func flush(sleeping microseconds: UInt32)
  /// Lets go of everything that is queued, without waiting for it.
  func abandon()
}

extension RecordSink {
  public func answer(_ event: GateEvent) throws(RelayError) -> GateAnswer { .pass }
  public func flush(sleeping microseconds: UInt32) { usleep(microseconds) }
}
