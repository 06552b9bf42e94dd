// Owns: what a relay says of itself when something beside the way of the events fails: its log's reader, the second
// connection, its admin port; and a signal that comes before it has started.
import Foundation
import Glibc
import RelayTesting
import Testing

extension Integration {
  @Suite struct NothingGreenTests {
    @Test func `a log that nobody reads holds neither events nor SIGTERM`() throws {
      let scene = try Scene()
      let port = try freePort()
      let path = TestFolder.make("pipe") + "/stderr"
      try #require(mkfifo(path, 0o600) == 0)
      let descriptor = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC)
      defer { close(descriptor) }
      let piece = [UInt8](repeating: 0x2E, count: 4096)
      while write(descriptor, piece, piece.count) > 0 {}
      let relay = try ChildProcess([
        "sh", "-c", "exec \"$0\" \"$@\" 2>\(path)", try OutboxdProcess.binary(), "run", "--config",
        try scene.configuration.write(), "--log-level", "debug", "--set", "admin.listen=127.0.0.1:\(port)",
      ])
      func page(_ path: String) throws -> String { try HTTPProbe.get(port: port, path: path).body }
      try eventually("it is ready", within: 30) {
        (try? HTTPProbe.get(port: port, path: "/readyz"))?.status == 200
      }
      try scene.server.sql("SELECT workload.emit('orders', ARRAY[1], 100)", database: "shop")
      try eventually("events are confirmed", within: 30) {
        try page("/metrics").matches(of: /outboxd_events_delivered_total\{.*\} ([0-9]+)/)
          .reduce(0) { $0 + (Int($1.1) ?? 0) } == 100
      }
      #expect(try HTTPProbe.get(port: port, path: "/livez").status == 200)
      let dropped = try page("/metrics").firstMatch(of: /outboxd_log_lines_dropped_total ([0-9]+)/)
      #expect(try #require(Int(dropped?.1 ?? "")) > 0)
      relay.signal(SIGTERM)
      #expect(try relay.wait(seconds: 10) == 0)
    }

    @Test func `a second connection that is refused is told with its reason, and the stream knows the lag`()
      throws
    {
      let scene = try Scene()
      let relay = try scene.start()
      try eventually("the slot is read\n\(relay.tail)", within: 20) {
        try relay.metric("outboxd_slot_wal_status") != nil
      }
      try scene.server.sql(
        """
        ALTER ROLE outboxd CONNECTION LIMIT 0;
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'outboxd journal';
        """)
      try scene.server.sql(
        "SELECT workload.emit('orders', array_agg(i), 20000) FROM generate_series(1, 50) i", database: "shop")
      let reasons = try relay.waitUntilNotReady(within: 60, containing: "last read the slot")
      #expect(reasons.contains("too many connections for role"))
      let lag = try scene.server.integer(
        "SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), confirmed_flush_lsn)::bigint FROM pg_replication_slots"
      )
      #expect(lag > 1_000_000)
      try eventually("the lag is the real one\n\(relay.tail)", within: 20) {
        try relay.metric("outboxd_slot_lag_bytes").map { abs($0 - Double(lag)) < 100_000 } ?? false
      }
      for name in ["slot_wal_status", "slot_retained_bytes"] {
        #expect(try relay.metric("outboxd_\(name)") == nil)
      }
      #expect(try relay.metric("outboxd_unconfirmed_age_seconds") ?? 0 > 5)
      #expect(try relay.metric("outboxd_reading_age_seconds") ?? 0 > 15)
      try scene.server.sql("ALTER ROLE outboxd CONNECTION LIMIT -1")
      try relay.waitUntilReady(within: 20)
      let verdict = try scene.finish(relay)
      #expect(verdict.ok, "\(verdict)")
    }

    @Test func `a standby runs while the active one has its admin port, and has both after it`() throws {
      let scene = try Scene()
      let listen = ["OUTBOXD_ADMIN_LISTEN": "127.0.0.1:\(try freePort())"]
      let active = try OutboxdProcess(scene.configuration, environment: listen)
      try active.waitUntilReady()
      let standby = try OutboxdProcess(scene.configuration, environment: listen)
      let warning = try standby.waitForLog("no admin server") {
        $0.message.hasPrefix("the relay runs without its admin server")
      }
      #expect(warning.fields["remedy"]?.contains("admin.listen") == true)
      try standby.waitForLog("standby") { $0.message.hasPrefix("standby") }
      #expect(try active.terminate() == 0)
      try standby.waitUntilReady(within: 20)
      // What counts as a reconnection is one that came about, not each attempt.
      #expect(try standby.metric("outboxd_reconnects_total") == 0)
      try scene.server.stop()
      try eventually("it has tried several times\n\(standby.tail)", within: 20) {
        standby.log.count { $0.message.hasPrefix("no stream from Postgres") } > 3
      }
      try scene.server.start()
      try standby.waitUntilReady()
      #expect(try standby.metric("outboxd_reconnects_total{side=\"postgres\"}") == 1)
      #expect(try standby.terminate() == 0)
    }

    @Test func `a SIGTERM that comes before the relay has started ends it in good order`() throws {
      let scene = try Scene(initialize: false)
      for _ in 0..<5 {
        let relay = try OutboxdProcess(scene.configuration)
        // Process 1 of a container has no other way to keep a signal than to block it.
        try eventually("signals are blocked", within: 10) {
          let status = try String(contentsOfFile: "/proc/\(relay.process.processID)/status", encoding: .utf8)
          let blocked =
            status.firstMatch(of: /SigBlk:\s*([0-9a-f]+)/).flatMap { UInt64($0.1, radix: 16) } ?? 0
          return status.hasPrefix("Name:\toutboxd") && blocked & 1 << (UInt64(SIGTERM) - 1) != 0
        }
        #expect(try relay.terminate(within: 10) == 0, "\(relay.tail)")
      }
    }
  }
}
