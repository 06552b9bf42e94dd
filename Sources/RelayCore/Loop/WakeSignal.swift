// Owns: waking a thread from `poll(2)`, from any other thread.
// Must not know: why it is woken.
import CSystem
import Glibc

/// A descriptor that is readable from `signal` until `clear`.
public final class WakeSignal: Sendable {
  public let descriptor: Int32

  public init() { descriptor = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK)) }

  deinit { close(descriptor) }

  public func signal() { eventfd_write(descriptor, 1) }

  public func clear() {
    var count: eventfd_t = 0
    eventfd_read(descriptor, &count)
  }

  /// Waits for a signal for at most so many milliseconds, and clears it.
  func wait(milliseconds: Int) {
    var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    _ = poll(&entry, 1, Int32(milliseconds))
    clear()
  }
}
