// Owns: the admin server over real sockets: its pages, and what hostile scrapers can do to it.
import Foundation
import RelayCore
import RelayTesting
import Testing

@testable import outboxd

private struct Running {
  let server: AdminServer
  let metrics = RelayMetrics()
  let port: UInt16

  init() throws {
    server = try AdminServer(
      settings: AdminSettings(host: "127.0.0.1", port: 0), metrics: metrics,
      info: AdminInfo(slot: "s"), log: Log(level: .error))
    port = try #require(UInt16(server.address?.split(separator: ":").last ?? ""))
  }

  /// A whole, good answer to a scrape, and how long it took in seconds.
  func scrape() -> (isGood: Bool, seconds: Double) {
    let start = MonotonicTime.now()
    let text = AdminClient.get("/metrics", port: port)
    let seconds = Double(MonotonicTime.now().nanoseconds - start.nanoseconds) / 1e9
    return (text.hasPrefix("HTTP/1.1 200 OK\r\n") && text.contains("process_start_time_seconds"), seconds)
  }
}

/// Serial: the tests look at the threads and the memory of the process.
@Suite(.serialized, .timeLimit(.minutes(2))) struct AdminServerTests {
  @Test("Each path has its answer, and others and other methods are refused")
  func paths() throws {
    let running = try Running()
    defer { running.server.stop() }
    func status(_ path: String, method: String = "GET") -> String {
      String(AdminClient.get(path, port: running.port, method: method).prefix { $0 != "\r\n" })
    }
    #expect(status("/metrics") == "HTTP/1.1 200 OK")
    #expect(status("/livez") == "HTTP/1.1 200 OK")
    #expect(status("/readyz") == "HTTP/1.1 503 Service Unavailable")
    #expect(status("/healthz") == "HTTP/1.1 503 Service Unavailable")
    #expect(status("/status") == "HTTP/1.1 200 OK")
    #expect(status("/") == "HTTP/1.1 200 OK")
    #expect(status("/metrics?a=b") == "HTTP/1.1 200 OK")
    for path in ["/nothing", "/../etc/passwd", "/config", "/metrics/", "//"] {
      #expect(status(path) == "HTTP/1.1 404 Not Found", "\(path)")
    }
    let posted = AdminClient.get("/metrics", port: running.port, method: "POST")
    #expect(posted.hasPrefix("HTTP/1.1 405 ") && posted.contains("Allow: GET, HEAD\r\n"))
    let head = AdminClient.get("/metrics", port: running.port, method: "HEAD")
    #expect(head.hasPrefix("HTTP/1.1 200 OK") && head.hasSuffix("\r\n\r\n"))
    #expect(head.contains("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"))
  }

  @Test("A port that is taken is warned of, and listened on as soon as it is free")
  func portInUse() throws {
    let running = try Running()
    let pipe = Pipe()
    let second = try AdminServer(
      settings: AdminSettings(host: "127.0.0.1", port: running.port), metrics: RelayMetrics(),
      info: AdminInfo(slot: "second"),
      log: Log(descriptor: pipe.fileHandleForWriting.fileDescriptor))
    #expect(second.address == nil)
    let warning = String(decoding: pipe.fileHandleForReading.availableData, as: UTF8.self)
    #expect(warning.contains("cannot listen on 127.0.0.1:\(running.port): Address already in use"))
    #expect(warning.contains("admin.listen"))
    running.server.stop()
    running.server.stop()
    try eventually("it listens", within: 20) { second.address == "127.0.0.1:\(running.port)" }
    #expect(AdminClient.get("/status", port: running.port).contains("\"second\""))
    second.stop()
    // One that never gets its port ends all the same.
    let other = try Running()
    let third = try AdminServer(
      settings: AdminSettings(host: "127.0.0.1", port: other.port), metrics: RelayMetrics(),
      info: AdminInfo(slot: "s"), log: Log(level: .error))
    third.stop()
    #expect(third.address == nil)
    other.server.stop()
  }

  @Test("It listens on IPv6, on every address, and refuses a name that does not resolve")
  func addresses() throws {
    func start(_ host: String) throws -> AdminServer {
      try AdminServer(
        settings: AdminSettings(host: host, port: 0), metrics: RelayMetrics(),
        info: AdminInfo(slot: "s"), log: Log(level: .error))
    }
    // A machine without IPv6 cannot have it.
    if FileManager.default.fileExists(atPath: "/proc/net/if_inet6"), let six = try? start("::1") {
      #expect(six.address?.hasPrefix("[::1]:") == true)
      six.stop()
    }
    let all = try start("")
    let port = try #require(UInt16(all.address?.split(separator: ":").last ?? ""))
    #expect(AdminClient.get("/livez", port: port).hasPrefix("HTTP/1.1 200"))
    all.stop()
    #expect(throws: RelayError.self) { try start("no-such-host.invalid") }
  }

  @Test("A page of a stranger gets nothing by a name of its own, on any path; loopback names and no name do")
  func hosts() throws {
    let running = try Running()
    defer { running.server.stop() }
    running.metrics.hold = "topic \"secret\" does not exist"
    func answer(_ path: String, _ host: String?, version: String = "1.1") throws -> String {
      let client = try #require(AdminClient(port: running.port))
      client.send("GET \(path) HTTP/\(version)\r\n" + (host.map { "Host: \($0)\r\n" } ?? "") + "\r\n")
      return client.read()
    }
    for path in ["/", "/status", "/metrics", "/readyz", "/livez", "/nothing"] {
      let refused = try answer(path, "evil.example:\(running.port)")
      #expect(refused.hasPrefix("HTTP/1.1 421 "), "\(refused)")
      #expect(refused.contains("admin.hosts") && !refused.contains("secret"))
    }
    for host in ["localhost", "127.0.0.1:\(running.port)", "[::1]"] {
      #expect(try answer("/status", host).hasPrefix("HTTP/1.1 200 OK"), "\(host)")
    }
    #expect(try answer("/status", nil, version: "1.0").contains("200 OK"))
    // What is named is answered beside the loopback names.
    let named = try AdminServer(
      settings: AdminSettings(host: "127.0.0.1", port: 0), hosts: ["proxy.example"], metrics: RelayMetrics(),
      info: AdminInfo(slot: "s"), log: Log(level: .error))
    defer { named.stop() }
    let port = try #require(UInt16(named.address?.split(separator: ":").last ?? ""))
    let client = try #require(AdminClient(port: port))
    client.send("GET /livez HTTP/1.1\r\nHost: Proxy.example\r\n\r\n")
    #expect(client.read().hasPrefix("HTTP/1.1 200 OK"))
  }

  @Test("HTTP/0.9, TRACE, traversal, and a body of two lengths get no page")
  func oldTricks() throws {
    let running = try Running()
    defer { running.server.stop() }
    func answer(_ request: String) throws -> String {
      let client = try #require(AdminClient(port: running.port))
      client.send(request)
      shutdown(client.descriptor, Int32(SHUT_WR))
      return client.read()
    }
    let requests = [
      "GET /status\r\n\r\n",
      "TRACE /status HTTP/1.1\r\nHost: localhost\r\nX-Secret: a\r\n\r\n",
      "GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
      "GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
      "GET http://evil.example/status HTTP/1.1\r\nHost: evil.example\r\n\r\n",
      "POST /status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
        + "0\r\n\r\nGET /status HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ]
    for request in requests {
      let text = try answer(request)
      #expect(
        !text.contains(" 200 ") && !text.contains("\"slot\"") && !text.contains("X-Secret"),
        "\(request): \(text)")
      #expect(text.components(separatedBy: "HTTP/1.1 ").count <= 2, "\(request): \(text)")
    }
    #expect(running.scrape().isGood)
  }

  @Test("Pipelined requests get one answer, and the connection ends")
  func pipelining() throws {
    let running = try Running()
    defer { running.server.stop() }
    let client = try #require(AdminClient(port: running.port))
    client.send(String(repeating: "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", count: 50))
    let text = client.read()
    #expect(text.components(separatedBy: "HTTP/1.1 200 OK").count == 2)
  }

  @Test("Garbage, TLS, HTTP/2, long headers and bad methods end, and a scraper is served meanwhile")
  func rudeRequests() throws {
    let running = try Running()
    defer { running.server.stop() }
    let requests: [[UInt8]] = [
      [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xFC, 0x03, 0x03] + [UInt8](repeating: 7, count: 508),
      Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8),
      (0..<4096).map { UInt8(truncatingIfNeeded: $0 &* 167) },
      Array("GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: ".utf8)
        + [UInt8](repeating: 0x61, count: 1 << 20),
      Array("GET /".utf8) + [UInt8](repeating: 0x61, count: 1 << 20),
      Array("\r\n\r\n\r\n".utf8),
      Array("DELETE /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nabc".utf8),
      Array("GET /metrics HTTP/9.9\r\n\r\n".utf8),
      Array("GET /%00%ff%2e%2e/\u{7F} HTTP/1.1\r\nHost: localhost\r\n\r\n".utf8),
    ]
    var clients: [AdminClient] = []
    for request in requests {
      let client = try #require(AdminClient(port: running.port, seconds: 8))
      client.send(request)
      clients.append(client)
      #expect(running.scrape().isGood)
    }
    for (index, client) in clients.enumerated() { #expect(client.isClosedByPeer(), "request \(index)") }
  }

  @Test("Slow-loris, and readers that never read, are cut off after five seconds")
  func slowClients() async throws {
    let running = try Running()
    defer { running.server.stop() }
    let start = MonotonicTime.now()
    var clients: [AdminClient] = []
    for index in 0..<40 {
      let client = try #require(AdminClient(port: running.port, seconds: 1))
      if index.isMultiple(of: 2) {
        client.send("GET /metrics HTTP/1.1\r\n")
      } else {
        var small: Int32 = 1
        setsockopt(client.descriptor, SOL_SOCKET, SO_RCVBUF, &small, socklen_t(MemoryLayout<Int32>.size))
        client.send(String(repeating: "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", count: 100))
      }
      clients.append(client)
    }
    // A byte now and then keeps an idle timeout away, but not a deadline.
    let end = start.advanced(milliseconds: 9000)
    var cut = 0
    while cut < 20, MonotonicTime.now() < end {
      #expect(running.scrape().isGood)
      cut = 0
      for client in clients.enumerated().filter({ $0.offset.isMultiple(of: 2) }).map(\.element) {
        client.send("x")
        var byte: UInt8 = 0
        let count = recv(client.descriptor, &byte, 1, Int32(MSG_DONTWAIT))
        if count == 0 || (count < 0 && errno != EAGAIN) { cut += 1 }
      }
      let pause = StopSignal()
      pause.wait(milliseconds: 100)
    }
    let seconds = Double(MonotonicTime.now().nanoseconds - start.nanoseconds) / 1e9
    #expect(cut == 20, "\(cut) of 20 cut after \(seconds) s")
    #expect(seconds > 4 && seconds < 8)
  }

  @Test("Among 2,000 idle connections a scraper is served at once, with bounded memory and threads")
  func idleConnections() throws {
    var limit = rlimit()
    getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    limit.rlim_cur = min(limit.rlim_max, 8192)
    setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    let wanted = min(2000, Int(limit.rlim_cur) - 400)

    let running = try Running()
    defer { running.server.stop() }
    #expect(running.scrape().isGood)
    let before = try #require(ProcessStatistics.read())
    var idle: [AdminClient] = []
    var worst = 0.0
    for index in 0..<wanted {
      guard let client = AdminClient(port: running.port) else { break }
      idle.append(client)
      if index.isMultiple(of: 100) {
        let (isGood, seconds) = running.scrape()
        #expect(isGood, "after \(index) idle connections")
        worst = max(worst, seconds)
      }
    }
    #expect(idle.count == wanted)
    let (isGood, seconds) = running.scrape()
    #expect(isGood)
    worst = max(worst, seconds)
    #expect(worst < 5, "the slowest scrape took \(worst) s")
    let after = try #require(ProcessStatistics.read())
    #expect(after.threads <= before.threads + 4)
    // Server and clients are one process: the clients' own share is in this too.
    #expect(after.residentMemory < before.residentMemory + 20_000_000)
    let open = try #require(after.openDescriptors)
    #expect(open < wanted + AdminLoop.connectionLimit + 200)
  }
}
