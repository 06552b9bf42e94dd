// Owns: how long to wait before the next try.

/// Doubling waits with jitter.
public struct BackOff: Sendable {
  private let first: Int
  private let limit: Int
  private var next: Int

  /// In milliseconds.
  public init(first: Int = 200, limit: Int = 30_000) {
    self.first = first
    self.limit = limit
    next = first
  }

  /// The wait before the next try, in milliseconds: half of it is fixed, half is chance, so that many
  /// clients of one server do not come back together.
  public mutating func delay() -> Int {
    let current = next
    next = min(limit, next * 2)
    return current / 2 + Int.random(in: 0...(current / 2))
  }

  /// The other side is there again.
  public mutating func reset() {
    next = first
  }
}
