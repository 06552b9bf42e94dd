// Owns: the deliveries of a sink that delivers by itself, until the loop drains them.
// Must not know: records.
import CSystem
import Glibc
import RelayCore

/// Tags in order, counted where they repeat, with a descriptor that is readable while there are any.
struct SettledTags: ~Copyable {
  let descriptor: Int32
  private var runs: [(tag: UInt64, count: Int)] = []

  /// - Throws: `failed` where the system gives no descriptor.
  init() throws(RelayError) {
    descriptor = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
    guard descriptor >= 0 else {
      throw RelayError(.failed, "no eventfd: \(String(cString: strerror(errno)))")
    }
  }

  deinit { close(descriptor) }

  mutating func add(_ tag: UInt64, count: Int = 1) {
    if runs.isEmpty { wake() }
    if let last = runs.indices.last, runs[last].tag == tag {
      runs[last].count += count
    } else {
      runs.append((tag, count))
    }
  }

  func wake() { eventfd_write(descriptor, 1) }

  mutating func drain(_ settle: (Delivery) -> Void) {
    var value: eventfd_t = 0
    eventfd_read(descriptor, &value)
    for run in runs {
      for _ in 0..<run.count { settle(Delivery(tag: run.tag, failure: nil)) }
    }
    runs.removeAll(keepingCapacity: true)
  }

  mutating func forget() { runs.removeAll() }
}
