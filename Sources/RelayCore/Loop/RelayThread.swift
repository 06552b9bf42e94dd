// Owns: starting a thread and waiting for its end.
// Must not know: what the thread does.
import CSystem
import Glibc

/// A POSIX thread that runs one function.
public struct RelayThread: Sendable {
  private let handle: pthread_t

  private final class Body: Sendable {
    let run: @Sendable () -> Void
    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
  }

  /// - Parameter name: at most 15 bytes, as `top -H` shows it.
  /// - Throws: `failed` when the system has no thread to give.
  public init(name: String, _ run: @escaping @Sendable () -> Void) throws(RelayError) {
    // SAFETY: the retain is balanced by `takeRetainedValue` in the new thread, or below if there is none.
    let body = Unmanaged.passRetained(
      Body {
        outboxd_set_thread_name(name)
        run()
      })
    var handle = pthread_t()
    let result = pthread_create(
      &handle, nil,
      { @Sendable argument in
        guard let argument else { return nil }
        // SAFETY: the pointer is the retained body that `pthread_create` was given, and is used once.
        Unmanaged<Body>.fromOpaque(argument).takeRetainedValue().run()
        return nil
      }, body.toOpaque())
    guard result == 0 else {
      body.release()
      throw RelayError(.failed, "no thread \(name): \(String(cString: strerror(result)))")
    }
    self.handle = handle
  }

  /// Waits for the function's return. To be called once.
  public func join() {
    pthread_join(handle, nil)
  }
}
