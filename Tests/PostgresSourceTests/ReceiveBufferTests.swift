import CSystem
import Glibc
import RelayCore
import RelayTesting
import Testing

@testable import PostgresSource

struct ReceiveBufferTests {
  @Test func `the window is small while it is read, and the system's own while nobody reads`() throws {
    let connection = try LocalConnection.quick()
    let start = MonotonicTime.now()
    var buffer = ReceiveBuffer(connection.client, now: start)
    #expect(socketOption(connection.client, SO_RCVBUF) == 131_072)
    #expect(isFixed(connection.client))

    buffer.adapt(wasRead: false, now: start.advanced(milliseconds: 249))
    #expect(isFixed(connection.client))
    buffer.adapt(wasRead: false, now: start.advanced(milliseconds: 250))
    #expect(!isFixed(connection.client))
    #expect(socketOption(connection.client, SO_RCVBUF) > 131_072)

    buffer.adapt(wasRead: true, now: start.advanced(milliseconds: 300))
    #expect(isFixed(connection.client))
    #expect(socketOption(connection.client, SO_RCVBUF) == 131_072)
    buffer.adapt(wasRead: false, now: start.advanced(milliseconds: 549))
    #expect(isFixed(connection.client))
  }

  @Test func `without adapting, the buffer is the system's`() throws {
    let connection = try LocalConnection.quick()
    let before = socketOption(connection.client, SO_RCVBUF)
    var buffer = ReceiveBuffer(connection.client, isAdaptive: false, now: .now())
    buffer.adapt(wasRead: true, now: .now())
    buffer.adapt(wasRead: false, now: .now().advanced(milliseconds: 1_000))
    #expect(!isFixed(connection.client))
    #expect(socketOption(connection.client, SO_RCVBUF) == before)
  }

  @Test func `rows that trickle in while nobody reads find room`() throws {
    let connection = try LocalConnection.quick()
    let start = MonotonicTime.now()
    var buffer = ReceiveBuffer(connection.client, now: start)
    buffer.adapt(wasRead: false, now: start.advanced(milliseconds: 250))
    // Each is a segment of its own. A fixed buffer takes 114,000 bytes of them.
    let row = [UInt8](repeating: 1, count: 100)
    for _ in 0..<2_000 {
      #expect(send(connection.server, row, row.count, Int32(MSG_DONTWAIT)) == row.count)
    }
    let deadline = MonotonicTime.now().advanced(milliseconds: 10_000)
    while outboxd_bytes_waiting(connection.client) < 200_000, MonotonicTime.now() < deadline { usleep(1_000) }
    #expect(outboxd_bytes_waiting(connection.client) == 200_000)
  }

  @Test func `a socket of another kind is left as it is`() throws {
    var pair: [Int32] = [0, 0]
    try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0)
    defer { pair.forEach { close($0) } }
    let before = socketOption(pair[0], SO_RCVBUF)
    var buffer = ReceiveBuffer(pair[0], now: MonotonicTime(nanoseconds: 0))
    buffer.adapt(wasRead: false, now: .now())
    buffer.adapt(wasRead: true, now: .now())
    #expect(socketOption(pair[0], SO_RCVBUF) == before)
  }
}

func socketOption(_ descriptor: Int32, _ name: Int32) -> Int32 {
  var value: Int32 = 0
  var size = socklen_t(MemoryLayout<Int32>.size)
  // SAFETY: getsockopt writes at most `size` bytes to the integer, which lives for the call.
  return getsockopt(descriptor, SOL_SOCKET, name, &value, &size) == 0 ? value : -1
}

private func isFixed(_ descriptor: Int32) -> Bool {
  let bufferLock: Int32 = 72
  let fixedReceiveBuffer: Int32 = 2
  return socketOption(descriptor, bufferLock) & fixedReceiveBuffer != 0
}

/// Both ends of a TCP connection over the loopback device, without Nagle's algorithm, as Postgres has it.
private final class LocalConnection {
  let client: Int32
  let server: Int32

  /// A machine that was busy just then makes the round trip too long.
  static func quick() throws -> LocalConnection {
    for _ in 0..<50 {
      let connection = try LocalConnection()
      if outboxd_shortest_round_trip(connection.client) <= 50 { return connection }
    }
    throw HarnessError("no connection of this machine to itself was quick enough")
  }

  private init() throws {
    let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(listener) }
    client = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    let client = self.client
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    var results: [Int32] = []
    // SAFETY: the address is a sockaddr_in of `length` bytes, which lives for the calls.
    withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        results += [bind(listener, $0, length), getsockname(listener, $0, &length), listen(listener, 1)]
        results.append(connect(client, $0, length))
      }
    }
    server = accept(listener, nil, nil)
    var one: Int32 = 1
    results.append(
      setsockopt(server, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size)))
    try #require(results == [0, 0, 0, 0, 0] && server >= 0)
  }

  deinit {
    close(client)
    close(server)
  }
}
