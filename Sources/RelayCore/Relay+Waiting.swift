// Owns: what the loop sleeps on, and for how long.
// Must not know: what is done about what has come.
import CSystem
import Glibc

extension Relay {
  /// Sleeps until something has come, or something is due.
  func wait(_ source: (any ChangeSource)?, until deadline: MonotonicTime, beyondStop: Bool = false) {
    let now = MonotonicTime.now()
    var timeout = now.milliseconds(until: deadline, limit: 1000)
    withUnsafeTemporaryAllocation(of: pollfd.self, capacity: 4) { entries in
      // SAFETY: four entries at most are initialised, and poll(2) is given their number.
      var count = 0
      func watch(_ descriptor: Int32, _ events: Int32) {
        entries.initializeElement(at: count, to: pollfd(fd: descriptor, events: Int16(events), revents: 0))
        count += 1
      }
      if let sink { watch(sink.descriptor, POLLIN) }
      if !beyondStop, !stop.isRequested { watch(stop.descriptor, POLLIN) }
      if let wait = waiting?.wait {
        timeout = now.milliseconds(until: wait.until, limit: timeout)
        if let descriptor = wait.descriptor { watch(descriptor, POLLIN) }
      }
      if let source {
        timeout = now.milliseconds(until: source.reportTime, limit: timeout)
        // While something waits nothing is read: the socket backs up to the server.
        let events = (canRead ? POLLIN : 0) | (source.wantsWrite ? POLLOUT : 0)
        watch(source.descriptor, events)
      }
      _ = poll(entries.baseAddress, nfds_t(count), Int32(timeout))
      // A connection that was hung up while nothing is read from it makes poll(2) return at once, until the next
      // report finds out.
      if source != nil, !canRead, entries[count - 1].revents & Int16(POLLHUP | POLLERR) != 0 {
        usleep(10_000)
      }
    }
  }
}
