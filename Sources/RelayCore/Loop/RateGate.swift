// Owns: the limit on how many events a second are sent.
// Must not know: what becomes of them.

/// Spaces events evenly, and lets what was missed catch up, though never more than `burstMilliseconds` of it.
public final class RateGate: Gate {
  public static let burstMilliseconds = 50

  private let rate: Int
  private let clock: () -> MonotonicTime
  /// Nanoseconds from one event to the next.
  private let interval: UInt64
  /// When the next event may go.
  private var due: UInt64 = 0

  /// - Parameter rate: events a second, from 1 to 10⁹.
  public init(rate: Int, clock: @escaping () -> MonotonicTime = MonotonicTime.now) {
    self.rate = max(1, min(rate, 1_000_000_000))
    self.clock = clock
    interval = 1_000_000_000 / UInt64(self.rate)
  }

  public func answer(_ event: GateEvent) -> GateAnswer {
    let now = clock().nanoseconds
    guard now >= due else {
      return .wait(
        GateWait(
          for: "the rate", "no more than \(rate) events a second are sent",
          until: MonotonicTime(nanoseconds: due), patience: nil))
    }
    let burst = UInt64(Self.burstMilliseconds) * 1_000_000
    due = max(due, now > burst ? now - burst : 0) &+ interval
    return .pass
  }
}
