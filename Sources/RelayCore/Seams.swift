// Owns: the three seams of the loop. Everything behind them is replaceable in a test.
// Must not know: Postgres, Kafka.
import Glibc

/// Where changes come from: a replication stream, a range of WAL, or the rows of tables.
/// Confined to the relay's thread.
public protocol ChangeSource: AnyObject {
  /// A descriptor for `poll(2)`: readable when `next()` may have more.
  var descriptor: Int32 { get }
  /// True while the next change waits for something else than the server: then `descriptor` is of that.
  var waitsForLook: Bool { get }
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
  public var waitsForLook: Bool { false }
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
public enum Presence: Equatable, Sendable {
  /// Kafka holds it, byte for byte, with its `sequence`: it is not sent.
  case there
  /// Its topic does not hold it: it is sent, and comes once.
  case absent
  /// Neither is proved: it is sent, and may come twice.
  case unknown
}

/// What Kafka holds already, for the time after an unclean stop. Confined to the relay's thread.
public protocol DeliveredEvents: AnyObject {
  /// Nil where Kafka does not answer now: to be asked again at `retryTime`. May block for seconds, though only for a
  /// topic seen for the first time.
  func presence(of record: Record, _ sequence: EventSequence) -> Presence?
  var retryTime: MonotonicTime { get }
  /// The last answer may have taken long.
  var hasBlocked: Bool { get }
}

/// Where no former process can have sent anything.
final class NothingDelivered: DeliveredEvents {
  let retryTime = MonotonicTime(nanoseconds: 0)
  let hasBlocked = false
  func presence(of record: Record, _ sequence: EventSequence) -> Presence? { .absent }
}

/// Where nobody checks what Kafka holds.
public final class UnexaminedEvents: DeliveredEvents {
  public let retryTime = MonotonicTime(nanoseconds: 0)
  public let hasBlocked = false
  private var tell: (() -> Void)?

  /// - Parameter tell: called with the first event that is asked for.
  public init(tell: @escaping () -> Void) { self.tell = tell }

  public func presence(of record: Record, _ sequence: EventSequence) -> Presence? {
    tell?()
    tell = nil
    return .unknown
  }
}

/// The check of where records go, before the first of them is sent. Confined to the relay's thread.
public protocol FirstLook: AnyObject {
  /// False where it cannot be said now: to be asked again at `retryTime`. May block for a second.
  /// - Throws: what forbids to send.
  func admits(_ record: Record) throws(RelayError) -> Bool
  var retryTime: MonotonicTime { get }
}

/// Where checkpoints are kept, beside the slot. Confined to the relay's thread.
public protocol CheckpointStore: AnyObject {
  /// Hands over the newest checkpoint, and returns the newest that is durable. Never blocks.
  func store(_ checkpoint: LSN) -> LSN
  /// Hands over the last checkpoint, waits until it is durable or `deadline` has come, and returns the
  /// newest that is durable.
  func finish(_ checkpoint: LSN, deadline: MonotonicTime) -> LSN
}

/// Where records go. Confined to the relay's thread.
public protocol RecordSink: AnyObject {
  /// A descriptor for `poll(2)`: readable when `drain` has something.
  var descriptor: Int32 { get }
  /// When a held record is worth another try.
  var retryTime: MonotonicTime { get }

  /// Takes the record (its bytes are copied) or says why not. Never blocks for long: half a second at most,
  /// and only for a topic seen for the first time.
  /// - Throws: `recordRejected` where the record can never be sent, `sinkFailed` where the sink must be
  ///   rebuilt.
  func send(_ record: Record, tag: UInt64) throws(RelayError) -> SendOutcome
  /// Hands every delivery that has come to `settle`, and clears the descriptor. Never blocks.
  /// - Throws: `sinkFailed` where the sink must be rebuilt.
  func drain(_ settle: (Delivery) -> Void) throws(RelayError)
  /// Sends at once what it would hold back for company, and sleeps for so many microseconds.
  func hasten(sleeping microseconds: UInt32)
  /// Lets go of everything that is queued, without waiting for it.
  func abandon()
}

extension RecordSink {
  public func hasten(sleeping microseconds: UInt32) { usleep(microseconds) }
}
