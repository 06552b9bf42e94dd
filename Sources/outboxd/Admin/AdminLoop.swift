// Owns: the connections of the admin server: accepts them, bounds their number and their life, and lets
// libmicrohttpd speak HTTP on them. Confined to the admin thread.
// Must not know: what the pages say.
import CMicrohttpd
import CSystem
import Glibc
import RelayCore

/// libmicrohttpd's own limits do not stop a client that sends a byte a second, nor keep a place for an
/// honest one among thousands of idle ones. So the loop accepts by itself: the newest connection always
/// gets in, at the cost of the oldest, and each has five seconds for its one request.
final class AdminLoop {
  static let connectionLimit = 64
  /// In bytes, for each connection: the request's line and headers, and the reply's headers.
  static let connectionMemory = 16 * 1024
  /// In milliseconds, from the accept to the end of the reply.
  static let connectionLife = 5000
  private static let acceptsPerTurn = 64

  private struct Connection {
    var descriptor: Int32
    var deadline: MonotonicTime
    var isShut = false
  }

  private let listener: Int32
  private let pages: AdminPages
  private let hosts: AdminHosts
  private let stopSignal: StopSignal
  private var daemon: OpaquePointer?
  /// In the order of their accept.
  private var connections: [Connection] = []
  /// Out of descriptors: the listener is left alone until then.
  private var restUntil = MonotonicTime(nanoseconds: 0)

  /// Takes the listener over. Nil where libmicrohttpd cannot start.
  init?(listener: Int32, hosts: AdminHosts, pages: AdminPages, stopSignal: StopSignal) {
    self.listener = listener
    self.hosts = hosts
    self.pages = pages
    self.stopSignal = stopSignal
    // SAFETY: the daemon calls back only within MHD_run, MHD_add_connection and MHD_stop_daemon, which this
    // object calls itself: it is alive then.
    daemon = outboxd_start_daemon(
      adminAnswer, adminConnectionChanged, Unmanaged.passUnretained(self).toOpaque(),
      UInt32(Self.connectionLimit + 8), Self.connectionMemory, UInt32(Self.connectionLife / 1000))
    if daemon == nil { return nil }
  }

  deinit {
    if let daemon { MHD_stop_daemon(daemon) }
  }

  func run() {
    let work = outboxd_daemon_descriptor(daemon)
    while !stopSignal.isRequested {
      let now = MonotonicTime.now()
      let isResting = now < restUntil
      var entries = [
        pollfd(fd: stopSignal.descriptor, events: Int16(POLLIN), revents: 0),
        pollfd(fd: work, events: Int16(POLLIN), revents: 0),
        pollfd(fd: isResting ? -1 : listener, events: Int16(POLLIN), revents: 0),
      ]
      _ = poll(&entries, nfds_t(entries.count), timeout(now: now, isResting: isResting))
      if entries[2].revents != 0 { acceptWaiting() }
      shutOverdue()
      MHD_run(daemon)
    }
    if let daemon { MHD_stop_daemon(daemon) }
    daemon = nil
    close(listener)
  }

  /// In milliseconds; −1 where there is nothing to wait for but a new connection.
  private func timeout(now: MonotonicTime, isResting: Bool) -> Int32 {
    var timeout = Int32(-1)
    func atMost(_ milliseconds: Int) {
      let limit = Int32(clamping: milliseconds)
      timeout = timeout < 0 ? limit : min(timeout, limit)
    }
    var pending: UInt64 = 0
    if MHD_get_timeout(daemon, &pending) == .YES { atMost(Int(clamping: pending)) }
    if let next = connections.first(where: { !$0.isShut }) {
      atMost(now.milliseconds(until: next.deadline, limit: Self.connectionLife))
    }
    if isResting { atMost(now.milliseconds(until: restUntil, limit: 1000)) }
    return timeout
  }

  private func acceptWaiting() {
    for _ in 0..<Self.acceptsPerTurn {
      if connections.count >= Self.connectionLimit {
        shutOldest()
        MHD_run(daemon)
        guard connections.count < Self.connectionLimit else { return }
      }
      guard acceptOne() else { return }
    }
  }

  /// False where nothing waits any more.
  private func acceptOne() -> Bool {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    return withUnsafeMutablePointer(to: &storage) { pointer in
      // SAFETY: a sockaddr_storage has room for every socket address, and `length` says how much.
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
        let flags = Int32(SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        let descriptor = accept4(listener, address, &length, flags)
        guard descriptor >= 0 else { return acceptFailed(errno) }
        // SAFETY: the address is the one that accept4 filled. libmicrohttpd owns the descriptor from here
        // on, also where it refuses it.
        if MHD_add_connection(daemon, descriptor, address, length) == .YES {
          let deadline = MonotonicTime.now().advanced(milliseconds: Self.connectionLife)
          connections.append(Connection(descriptor: descriptor, deadline: deadline))
        }
        return true
      }
    }
  }

  private func acceptFailed(_ code: Int32) -> Bool {
    switch code {
    case ECONNABORTED, EINTR: return true
    case EAGAIN: return false
    default:
      // Out of descriptors or memory: make room, and do not spin on a listener that stays readable.
      shutOldest()
      restUntil = .now().advanced(milliseconds: 100)
      return false
    }
  }

  /// libmicrohttpd notices the end of the stream in its next run, and closes the descriptor.
  private func shutOldest() {
    guard let index = connections.firstIndex(where: { !$0.isShut }) else { return }
    shut(index)
  }

  private func shutOverdue() {
    let now = MonotonicTime.now()
    for index in connections.indices where !connections[index].isShut && connections[index].deadline <= now {
      shut(index)
    }
  }

  private func shut(_ index: Int) {
    connections[index].isShut = true
    shutdown(connections[index].descriptor, Int32(SHUT_RDWR))
  }

  fileprivate func closed(_ descriptor: Int32) {
    connections.removeAll { $0.descriptor == descriptor }
  }

  fileprivate func answer(_ connection: OpaquePointer, method: String, path: String) -> MHD_Result {
    // SAFETY: the text ends with NUL and lives as long as the request.
    let host = MHD_lookup_connection_value(connection, .HEADER_KIND, "Host").map { String(cString: $0) }
    let answer = hosts.admits(host) ? pages.answer(method: method, path: path) : AdminPages.misdirected
    var body = answer.body
    let response = body.withUTF8 { bytes in
      // SAFETY: libmicrohttpd copies the bytes before this returns (MUST_COPY), and does not write to them.
      MHD_create_response_from_buffer(
        bytes.count, UnsafeMutableRawPointer(mutating: bytes.baseAddress), .RESPMEM_MUST_COPY)
    }
    guard let response else { return .NO }
    // SAFETY: the response is alive until it is destroyed here; a queued one has a reference of its own.
    defer { MHD_destroy_response(response) }
    MHD_add_response_header(response, "Content-Type", answer.contentType)
    MHD_add_response_header(response, "Cache-Control", "no-store")
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff")
    // One request for each connection: its life is bounded from the accept on.
    MHD_add_response_header(response, "Connection", "close")
    if answer.status == 405 { MHD_add_response_header(response, "Allow", "GET, HEAD") }
    return MHD_queue_response(connection, answer.status, response)
  }
}

/// libmicrohttpd asks for the answer to a request. Free functions: a closure would be bound to an actor.
private func adminAnswer(
  _ context: UnsafeMutableRawPointer?, _ connection: OpaquePointer?, _ url: UnsafePointer<CChar>?,
  _ method: UnsafePointer<CChar>?, _ version: UnsafePointer<CChar>?, _ upload: UnsafePointer<CChar>?,
  _ uploadSize: UnsafeMutablePointer<Int>?,
  _ requestContext: UnsafeMutablePointer<UnsafeMutableRawPointer?>?
) -> MHD_Result {
  guard let context, let connection, let url, let method else { return .NO }
  // SAFETY: the context is the loop, see `AdminLoop.init`; the texts end with NUL and live for this call.
  return Unmanaged<AdminLoop>.fromOpaque(context).takeUnretainedValue()
    .answer(connection, method: String(cString: method), path: String(cString: url))
}

private func adminConnectionChanged(
  _ context: UnsafeMutableRawPointer?, _ connection: OpaquePointer?,
  _ socketContext: UnsafeMutablePointer<UnsafeMutableRawPointer?>?,
  _ change: MHD_ConnectionNotificationCode
) {
  guard let context, let connection, change == .CONNECTION_NOTIFY_CLOSED else { return }
  // SAFETY: the context is the loop, see `AdminLoop.init`. The descriptor is closed after this call.
  Unmanaged<AdminLoop>.fromOpaque(context).takeUnretainedValue()
    .closed(outboxd_connection_descriptor(connection))
}
