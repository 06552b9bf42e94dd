// Owns: what the loop hands to a sink, and what the sink hands back.
// Must not know: Kafka's library, CloudEvents.

/// A message for a topic. All bytes are lent; they are valid until the following `ChangeSource.next()`.
public struct Record {
  /// 1 to 249 bytes of `[A-Za-z0-9._-]`, checked by whoever makes the record.
  public var topic: LentBytes
  /// Nil is Kafka's null key. Zero bytes is an empty key.
  public var key: LentBytes?
  /// Nil is Kafka's null value: a tombstone. Zero bytes is an empty value.
  public var value: LentBytes?
  public var headers: UnsafeBufferPointer<RecordHeader>

  public init(
    topic: LentBytes, key: LentBytes?, value: LentBytes?, headers: UnsafeBufferPointer<RecordHeader>
  ) {
    self.topic = topic
    self.key = key
    self.value = value
    self.headers = headers
  }
}

public struct RecordHeader {
  /// UTF-8, followed by a NUL byte that is not counted.
  public var name: LentBytes
  public var value: LentBytes

  public init(name: LentBytes, value: LentBytes) {
    self.name = name
    self.value = value
  }
}

/// What became of a record that the sink had accepted.
public struct Delivery {
  /// The tag given to `RecordSink.send`.
  public var tag: UInt64
  /// Nil: acknowledged by all in-sync replicas.
  public var failure: DeliveryFailure?

  @inlinable
  public init(tag: UInt64, failure: DeliveryFailure?) {
    self.tag = tag
    self.failure = failure
  }
}

/// Why a record was not delivered.
public final class DeliveryFailure {
  /// `rowOrRecordRejected`: the record itself was refused for good. Anything else: the session must
  /// be rebuilt, and the record will be sent again.
  public let error: RelayError
  /// True where Kafka refuses a whole batch for one of its records, so that this one may be innocent.
  public let mayBeNeighbour: Bool
  /// The refused record. Lent for the duration of the callback.
  public let record: Record

  public init(error: RelayError, mayBeNeighbour: Bool, record: Record) {
    self.error = error
    self.mayBeNeighbour = mayBeNeighbour
    self.record = record
  }
}

/// The answer to `RecordSink.send`.
public enum SendOutcome {
  case accepted
  /// The queue is full. Send the same record again after deliveries have been drained.
  case full
  /// The topic does not exist, or may not be written, or is not known yet. Send the same record again
  /// when `RecordSink.retryTime` has come. The reason stands in `RelayMetrics.hold`.
  case held
}
