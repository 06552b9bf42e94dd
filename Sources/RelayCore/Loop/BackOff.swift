// Owns: how long to wait before the next try.
// Must not know: what is tried.

/// Doubling waits with jitter. They begin at the first one again once what was tried has lasted for a while: a peer that
/// accepts and hangs up at once is not there.
public struct BackOff: Sendable {
  private let first: Int
  private let limit: Int
  private let lasting: Int
  private var next: Int
  private var start: MonotonicTime?

  /// All in milliseconds.
  /// - Parameter lasting: how long a success must last to count as one.
  public init(first: Int = 200, limit: Int = 30_000, lasting: Int = 10_000) {
    self.first = first
    self.limit = limit
    self.lasting = lasting
    next = first
  }

  /// The wait before the next try, in milliseconds: half of it is fixed, half is chance, so that many
  /// clients of one server do not come back together.
  public mutating func delay(_ now: MonotonicTime = .now()) -> Int {
    if let start, now >= start.advanced(milliseconds: lasting) { next = first }
    start = nil
    let current = next
    next = min(limit, next * 2)
    return current / 2 + Int.random(in: 0...(current / 2))
  }

  /// A try has succeeded. Whether it lasts, the next `delay` sees.
  public mutating func succeeded(_ now: MonotonicTime = .now()) {
    start = now
  }

  /// The other side is known to be there.
  public mutating func reset() {
    next = first
    start = nil
  }
}
