// Owns: the port of the demo's admin server, and whether it says that the relay is ready.
// Must not know: the relay.
import CSystem
import Glibc
import RelayCore

/// The admin server's port, and whether it says that the relay is ready.
enum DemoPort {
  /// A port of 127.0.0.1 that was free a moment ago.
  /// - Throws: `failed`.
  static func free() throws(RelayError) -> UInt16 {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(descriptor) }
    var address = loopback(port: 0)
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let result = withUnsafeMutablePointer(to: &address) { pointer in
      // SAFETY: a sockaddr_in is passed as the sockaddr that it begins with, and its own size with it.
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
        bind(descriptor, generic, length) == 0 && getsockname(descriptor, generic, &length) == 0
      }
    }
    guard result else { throw RelayError(.failed, "no free port: \(String(cString: strerror(errno)))") }
    return UInt16(bigEndian: address.sin_port)
  }

  /// True if the outboxd there says that it is ready.
  static func answersReady(_ port: UInt16) -> Bool {
    AdminClient(settings: AdminSettings(port: port)).status()?.contains("\"ready\": true") ?? false
  }

  private static func loopback(port: UInt16) -> sockaddr_in {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr = in_addr(s_addr: UInt32(0x7F00_0001).bigEndian)
    return address
  }
}
