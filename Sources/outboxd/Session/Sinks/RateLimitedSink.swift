// Owns: the limit on how many records a second a sink is given.
// Must not know: what the sink does with them.
import RelayCore

/// Spaces records evenly, and lets what was missed catch up, though never more than `burstMilliseconds` of it.
/// Confined to the relay's thread.
final class RateLimitedSink: RecordSink {
  static let burstMilliseconds = 50

  private let sink: any RecordSink
  private let clock: () -> MonotonicTime
  /// Nanoseconds from one record to the next.
  private let interval: UInt64
  /// When the next record may go.
  private var due: UInt64 = 0
  private var isLimited = false

  /// - Parameter rate: records a second, from 1 to 10⁹.
  init(_ sink: any RecordSink, rate: Int, clock: @escaping () -> MonotonicTime = MonotonicTime.now) {
    self.sink = sink
    self.clock = clock
    interval = 1_000_000_000 / UInt64(max(1, min(rate, 1_000_000_000)))
  }

  var descriptor: Int32 { sink.descriptor }

  var retryTime: MonotonicTime { isLimited ? MonotonicTime(nanoseconds: due) : sink.retryTime }

  func send(_ record: Record, tag: UInt64) throws(RelayError) -> SendOutcome {
    let now = clock().nanoseconds
    isLimited = now < due
    if isLimited { return .held }
    let outcome = try sink.send(record, tag: tag)
    if case .accepted = outcome {
      let burst = UInt64(Self.burstMilliseconds) * 1_000_000
      due = max(due, now > burst ? now - burst : 0) &+ interval
    }
    return outcome
  }

  func drain(_ settle: (Delivery) -> Void) throws(RelayError) { try sink.drain(settle) }

  func hasten(sleeping microseconds: UInt32) { sink.hasten(sleeping: microseconds) }

  func abandon() { sink.abandon() }
}
