// Owns: how eagerly the socket is read while a backlog drains.
// Must not know: what is read; it does not sleep itself.

/// Naps between rounds of reading. A reader that waits for each message makes the server send each row as a
/// segment of its own; one that lets some milliseconds of rows gather doubles the throughput of both. A round
/// that brought nothing is followed by no nap, so a stream that has been quiet is read at once.
struct ReadingPace {
  /// What follows when the socket is empty.
  enum Rest: Equatable {
    /// Wait in `poll(2)`: the last round brought nothing.
    case wait
    /// Read again after so many microseconds. The backlog goes on, and a record gains nothing by leaving soon.
    case nap(UInt32)
    /// Read again after so many microseconds, so that events that come singly share the wake-ups of all that they
    /// pass. What was read is to leave at once.
    case gather(UInt32)
  }

  private typealias Time = Tuning.Reading

  /// False: every round ends in `poll(2)`.
  let isAdaptive: Bool
  private var rate = 0.0
  private var windowStart = MonotonicTime(nanoseconds: 0)
  private var windowBytes: UInt64 = 0
  /// Bytes received when the round began. A round ends with a nap, or when it brought nothing.
  private var roundStart: UInt64 = 0
  private var rereadsLeft = Time.rereads

  init(isAdaptive: Bool = true) {
    self.isAdaptive = isAdaptive
  }

  /// The socket is empty: what now?
  /// - Parameters:
  ///   - received: bytes received on the connection so far.
  ///   - isInTransaction: the rest of a transaction is on its way.
  mutating func rest(received: UInt64, isInTransaction: Bool, now: MonotonicTime) -> Rest {
    let bytes = received &- roundStart
    guard isAdaptive, bytes > 0 else { return .wait }
    measure(received, now)
    guard rate > Time.backlogRate else {
      begin(received)
      if isInTransaction { return .nap(Time.transactionNap) }
      return .gather(rate > Time.denseRate ? Time.denseGatherTime : Time.gatherTime)
    }
    if bytes < Time.fullRound, rereadsLeft > 0 {
      rereadsLeft -= 1
      return .nap(Time.rereadTime)
    }
    begin(received)
    return .nap(Time.backlogNap)
  }

  private mutating func begin(_ received: UInt64) {
    roundStart = received
    rereadsLeft = Time.rereads
  }

  private mutating func measure(_ received: UInt64, _ now: MonotonicTime) {
    let elapsed = now.nanoseconds &- windowStart.nanoseconds
    guard elapsed >= Time.rateTime else { return }
    let current = Double(received &- windowBytes) * 1e9 / Double(elapsed)
    // A window that was mostly silence says nothing of the rate before or after.
    rate = elapsed > 1_000_000_000 ? 0 : (rate + current) / 2
    windowStart = now
    windowBytes = received
  }
}
