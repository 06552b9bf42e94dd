// Owns: the question that stands between a record and the sink, and its four answers.
// Must not know: any one gate.

/// One reason for which an event may not be sent now, or not at all. Confined to the relay's thread.
///
/// The gates stand in one order, see `Gates`. The first that does not pass decides, and nothing is read before its event
/// has gone on: the order of the stream is the order of the events.
public protocol Gate: AnyObject {
  /// Asked once for each event, and again for one that waits, when its wait says so. May block for a second where a
  /// topic is seen for the first time, and otherwise never.
  /// - Throws: what ends the stream or the producer.
  func answer(_ event: GateEvent) throws(RelayError) -> GateAnswer
}

/// An event that is about to be sent. Lent for the call.
public struct GateEvent {
  public let record: Record
  /// The commit LSN of its transaction, and its index therein.
  public let place: EventSequence
  /// Records sent and not acknowledged.
  public let outstanding: Int

  public init(record: Record, place: EventSequence, outstanding: Int) {
    self.record = record
    self.place = place
    self.outstanding = outstanding
  }
}

public enum GateAnswer {
  case pass
  /// The event is settled without being sent.
  case skip(SkipReason)
  /// The event waits, and with it all that follow it.
  indirect case wait(GateWait)
  /// The event can never be sent as things stand: its outbox's `on_rejection` decides.
  indirect case divert(RelayError)
}

public enum SkipReason: Sendable {
  /// It is not among the events that were asked for.
  case unselected
  /// Kafka holds it, byte for byte.
  case recognized
}

/// Why an event waits, and when its gate is asked again: whichever of the three comes first.
public struct GateWait: Equatable, Sendable {
  /// What is waited for, after "waiting for": "a topic".
  public var subject: String
  /// One sentence for people: what is the matter, and what ends it.
  public var reason: String
  /// The gate is asked again at this time.
  public var until: MonotonicTime
  /// The gate is asked again when this descriptor is readable; the gate clears it.
  public var descriptor: Int32?
  /// The gate is asked again when no more records than this are outstanding. Nil: whatever is outstanding.
  public var outstanding: Int?
  /// Milliseconds after which the wait is told. 0: at once. Nil: never, since a relay that does its work waits like that.
  public var patience: Int?
  /// What is in flight has no company to wait for.
  public var flushes = false

  public init(
    for subject: String, _ reason: String, until: MonotonicTime = .never, descriptor: Int32? = nil,
    outstanding: Int? = nil, patience: Int? = 0
  ) {
    self.subject = subject
    self.reason = reason
    self.until = until
    self.descriptor = descriptor
    self.outstanding = outstanding
    self.patience = patience
  }

  /// True when the gate is to be asked again.
  func isOver(at now: MonotonicTime, outstanding count: Int) -> Bool {
    now >= until || descriptor != nil || outstanding.map { count <= $0 } ?? false
  }
}
