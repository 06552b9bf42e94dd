// Owns: the socket that the admin server listens on.
// Must not know: HTTP.
import CSystem
import Glibc
import RelayCore

struct AdminListener {
  /// Non-blocking. Whoever takes it closes it.
  let descriptor: Int32
  /// With the port that the system chose where 0 was asked for: `127.0.0.1:9464`, `[::1]:9464`.
  let address: String

  struct Failure: Error {
    var error: RelayError
    /// Another process has the port, or the address is not on this machine yet: both may change by themselves. A name
    /// that does not resolve and a port that needs a right are faults of the configuration.
    var mayPass: Bool
  }

  static func open(_ settings: AdminSettings) throws(Failure) -> AdminListener {
    // Every address: one socket for both families, or IPv4 alone where the machine has no IPv6.
    let hosts = settings.host.isEmpty ? ["::", "0.0.0.0"] : [settings.host]
    var reason = ""
    var remedy = "Set admin.listen to an address and a port that this process may listen on, or to off."
    var mayPass = false
    for host in hosts {
      var hints = addrinfo()
      hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
      hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV
      var list: UnsafeMutablePointer<addrinfo>?
      let code = getaddrinfo(host, String(settings.port), &hints, &list)
      guard code == 0 else {
        // SAFETY: a constant of the library.
        reason = String(cString: gai_strerror(code))
        remedy =
          "Correct the host of admin.listen: an address of this machine, or a name that resolves to one; or set off."
        continue
      }
      // SAFETY: getaddrinfo filled the list; its entries live until freeaddrinfo.
      defer { freeaddrinfo(list) }
      var entry = list
      while let information = entry?.pointee {
        if let descriptor = listen(on: information) {
          return AdminListener(descriptor: descriptor, address: boundAddress(descriptor) ?? settings.text)
        }
        mayPass = mayPass || errno == EADDRINUSE || errno == EADDRNOTAVAIL
        remedy = Self.remedy(errno, settings.port) ?? remedy
        reason = SmallFile.errorText(errno)
        entry = information.ai_next
      }
    }
    throw Failure(
      error: RelayError(
        .failed, "the admin server cannot listen on \(settings.text): \(reason)",
        remedy: remedy), mayPass: mayPass)
  }

  private static func remedy(_ code: Int32, _ port: UInt16) -> String? {
    switch code {
    case EADDRINUSE:
      "Set admin.listen to a free port, to port 0 for any, or to off; \"ss -ltnp 'sport = :\(port)'\" shows who has "
        + "this one."
    case EADDRNOTAVAIL: "Set the host of admin.listen to an address of this machine, or admin.listen to off."
    case EACCES:
      "Set admin.listen to a port from 1024 on, or give outboxd the capability CAP_NET_BIND_SERVICE."
    default: nil
    }
  }

  /// Nil with the reason in errno.
  private static func listen(on information: addrinfo) -> Int32? {
    let flags = Int32(SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
    let descriptor = socket(information.ai_family, information.ai_socktype | flags, information.ai_protocol)
    guard descriptor >= 0 else { return nil }
    var one: Int32 = 1
    var zero: Int32 = 0
    let size = socklen_t(MemoryLayout<Int32>.size)
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, size)
    if information.ai_family == AF_INET6 {
      setsockopt(descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY, &zero, size)
    }
    // SAFETY: the address is an entry of getaddrinfo's list, with its own length.
    guard bind(descriptor, information.ai_addr, information.ai_addrlen) == 0,
      Glibc.listen(descriptor, SOMAXCONN) == 0
    else {
      let code = errno
      close(descriptor)
      errno = code
      return nil
    }
    return descriptor
  }

  private static func boundAddress(_ descriptor: Int32) -> String? {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    var host = [CChar](repeating: 0, count: Int(NI_MAXHOST))
    var port = [CChar](repeating: 0, count: Int(NI_MAXSERV))
    let isKnown = withUnsafeMutablePointer(to: &storage) { pointer in
      // SAFETY: a sockaddr_storage has room for every socket address, and `length` says how much.
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
        getsockname(descriptor, address, &length) == 0
          && getnameinfo(
            address, length, &host, socklen_t(host.count), &port, socklen_t(port.count),
            NI_NUMERICHOST | NI_NUMERICSERV) == 0
      }
    }
    guard isKnown else { return nil }
    func text(_ characters: [CChar]) -> String {
      String(decoding: characters.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
    let name = text(host)
    return name.contains(":") ? "[\(name)]:\(text(port))" : "\(name):\(text(port))"
  }
}
