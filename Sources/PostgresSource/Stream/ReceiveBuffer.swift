// Owns: how much the kernel may hold of the stream before it is read.
// Must not know: what is read, or why it is not.
import CSystem
import RelayCore

/// The receive buffer of a stream from a server on this machine.
///
/// The server writes each row by itself. Into a large window it sends each as a segment of its own, which costs it
/// as much as all the rest of its work; before a small one, which fills while the reader naps, the rows gather in
/// its send buffer and leave as large segments. So the buffer is small while it is read.
///
/// While nobody reads, a small one would fill with the overhead of small segments, and a window that had to shrink
/// makes Linux drop the server's acknowledgements, until `tcp_user_timeout` ends the connection. So it is given
/// back to the system meanwhile.
struct ReceiveBuffer {
  private typealias Limit = Tuning.Receiving

  private let descriptor: Int32
  private let isBounded: Bool
  private var isHeld = false
  private var lastRead: MonotonicTime

  /// Of a connected socket, before the stream starts.
  /// - Parameter isAdaptive: false leaves the buffer to the system.
  init(_ descriptor: Int32, isAdaptive: Bool = true, now: MonotonicTime) {
    self.descriptor = descriptor
    lastRead = now
    let roundTrip = outboxd_shortest_round_trip(descriptor)
    isBounded =
      isAdaptive && Limit.localRoundTrips.contains(roundTrip) && outboxd_free_receive_buffer(descriptor) == 0
      && outboxd_fix_receive_buffer(descriptor, Limit.size) == 0
  }

  /// To be called once a turn.
  /// - Parameter wasRead: the socket was read since the last call.
  mutating func adapt(wasRead: Bool, now: MonotonicTime) {
    guard isBounded else { return }
    if wasRead {
      lastRead = now
      if isHeld { isHeld = outboxd_fix_receive_buffer(descriptor, Limit.size) != 0 }
    } else if !isHeld, now >= lastRead.advanced(milliseconds: Limit.holdTime) {
      isHeld = true
      _ = outboxd_fix_receive_buffer(descriptor, Limit.heldSize)
      _ = outboxd_free_receive_buffer(descriptor)
    }
  }
}
