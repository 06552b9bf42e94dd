// Owns: one HTTP request to the admin server, so that tests need no HTTP client.
import Foundation
import Glibc

public enum HTTPProbe {
  public struct Answer {
    public let status: Int
    public let body: String
  }

  /// GET on 127.0.0.1, with five seconds for everything.
  public static func get(port: Int, path: String, host: String = "127.0.0.1") throws -> Answer {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw HarnessError("no socket") }
    defer { close(descriptor) }
    var limit = timeval(tv_sec: 5, tv_usec: 0)
    let size = socklen_t(MemoryLayout<timeval>.size)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, size)
    setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, size)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(port).bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    let connected = withUnsafePointer(to: &address) { pointer in
      // SAFETY: sockaddr_in is laid out as a sockaddr, and lives for the duration of the closure.
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
      }
    }
    guard connected else { throw HarnessError("nobody listens on port \(port)") }
    let request = Array("GET \(path) HTTP/1.1\r\nHost: \(host)\r\nConnection: close\r\n\r\n".utf8)
    guard send(descriptor, request, request.count, Int32(MSG_NOSIGNAL)) == request.count else {
      throw HarnessError("the request cannot be sent")
    }
    var answer: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65536)
    while true {
      let count = recv(descriptor, &buffer, buffer.count, 0)
      if count == 0 { break }
      guard count > 0 else { throw HarnessError("no answer from port \(port) within 5 s") }
      answer += buffer[0..<count]
    }
    let text = String(decoding: answer, as: UTF8.self)
    guard let head = text.range(of: "\r\n\r\n"), let status = text.split(separator: " ").dropFirst().first,
      let code = Int(status)
    else { throw HarnessError("not an HTTP answer: \(text.prefix(200))") }
    return Answer(status: code, body: String(text[head.upperBound...]))
  }
}
