// Owns: the request to stop, from any thread to any thread.
// Must not know: who stops, and why.
import CSystem
import Glibc
import Synchronization

/// Asks a thread to stop, and wakes it from `poll(2)`.
public final class StopSignal: Sendable {
  /// Readable from then on once a stop was requested.
  public let descriptor: Int32
  private let requested = Atomic<Bool>(false)
  private let requestedAt = Atomic<UInt64>(.max)
  private let onTurn: (@Sendable () -> Void)?

  /// - Parameter onTurn: called about once a second by whoever waits on this signal, so that a thread that waits can be
  ///   told from one that stands still.
  public init(onTurn: (@Sendable () -> Void)? = nil) {
    self.onTurn = onTurn
    descriptor = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
  }

  deinit { close(descriptor) }

  public var isRequested: Bool { requested.load(ordering: .acquiring) }

  /// When the stop was first requested, `.never` before: what all deadlines of a stop count from.
  public var requestTime: MonotonicTime {
    MonotonicTime(nanoseconds: requestedAt.load(ordering: .acquiring))
  }

  /// To be called once a second by a wait of the thread that is to stop.
  public func turned() { onTurn?() }

  public func request() {
    _ = requestedAt.compareExchange(
      expected: .max, desired: MonotonicTime.now().nanoseconds, ordering: .acquiringAndReleasing)
    requested.store(true, ordering: .releasing)
    eventfd_write(descriptor, 1)
  }

  /// Waits until a stop is requested or `milliseconds` have passed. True if a stop is requested.
  @discardableResult
  public func wait(milliseconds: Int) -> Bool {
    let end = MonotonicTime.now().advanced(milliseconds: milliseconds)
    while !isRequested {
      turned()
      let left = MonotonicTime.now().milliseconds(until: end, limit: onTurn == nil ? 60_000 : 1000)
      if left == 0 { return isRequested }
      var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      _ = poll(&entry, 1, Int32(left))
    }
    return true
  }
}
