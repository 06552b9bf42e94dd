// Owns: asking a running outboxd on this machine what it does.
// Must not know: what the answer means, beyond its members' names.
import CSystem
import Glibc
import RelayCore

/// A GET of the admin server's `/status`, over HTTP/1.0. Only ever talks to `AdminServer`.
struct AdminClient {
  let settings: AdminSettings

  private static let timeout = timeval(tv_sec: 1, tv_usec: 0)
  private static let limit = 64 * 1024

  /// The body, nil where nobody answers within a second.
  func status() -> String? {
    guard let descriptor = connect() else { return nil }
    defer { close(descriptor) }
    // Without a Host: whatever name the operator has given to the address, it is answered.
    var request = "GET /status HTTP/1.0\r\n\r\n"
    let isSent = request.withUTF8 { bytes in
      // SAFETY: the bytes live for the duration of the closure.
      send(descriptor, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count
    }
    guard isSent else { return nil }
    var answer: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 4096)
    while answer.count < Self.limit {
      let count = recv(descriptor, &piece, piece.count, 0)
      guard count > 0 else { break }
      answer.append(contentsOf: piece[..<count])
    }
    let text = String(decoding: answer, as: UTF8.self)
    guard text.hasPrefix("HTTP/1."), let end = text.firstRange(of: "\r\n\r\n") else { return nil }
    return String(text[end.upperBound...])
  }

  private func connect() -> Int32? {
    guard settings.port != 0 else { return nil }
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var list: UnsafeMutablePointer<addrinfo>?
    let host = settings.host.isEmpty ? "127.0.0.1" : settings.host
    guard getaddrinfo(host, String(settings.port), &hints, &list) == 0, let first = list else { return nil }
    // SAFETY: getaddrinfo's list lives until it is freed here, and holds one address at least.
    defer { freeaddrinfo(first) }
    let descriptor = socket(first.pointee.ai_family, first.pointee.ai_socktype, first.pointee.ai_protocol)
    guard descriptor >= 0 else { return nil }
    var timeout = Self.timeout
    let size = socklen_t(MemoryLayout<timeval>.size)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, size)
    setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &timeout, size)
    guard Glibc.connect(descriptor, first.pointee.ai_addr, first.pointee.ai_addrlen) == 0 else {
      close(descriptor)
      return nil
    }
    return descriptor
  }
}
