import Foundation
import RelayTesting
import Testing

extension Integration {
  /// The replay window as an operator meets it: made by the daemon, shown by status and slot, dropped on request.
  @Suite struct ReplayWindowTests {
    @Test(arguments: [15, 18])
    func `a daemon with a replay window keeps an anchor that status and slot show`(version: Int) throws {
      guard PostgresServer.versions.contains(version) else { return }
      let scene = try Scene(version: version)
      let window = ["OUTBOXD_REPLAY_WINDOW": "1h"]
      let relay = try OutboxdProcess(scene.configuration, environment: window)
      try relay.waitUntilReady()
      try relay.waitForLog("the anchor") { $0.message.hasPrefix("created the anchor") }
      try scene.workload.run(writers: 2, transactions: 10, size: 3, seed: 1)
      try eventually("the anchor is measured", within: 20) {
        try relay.metric("outboxd_anchor_retained_bytes").map { $0 >= 0 } ?? false
      }
      func run(_ words: String...) throws -> ChildProcess.Result {
        try OutboxdProcess.command(words + ["--config", relay.configurationPath], environment: window)
      }
      let status = try run("status", "--json")
      let json = try #require(
        try JSONSerialization.jsonObject(with: Data(status.output.utf8)) as? [String: Any])
      let replay = try #require(json["replay"] as? [String: Any])
      let from = try #require(replay["from_wal"] as? [String: Any])
      let position = try scene.server.sql(
        "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'outboxd_anchor'")
      #expect(from["lsn"] as? String == position)
      #expect(try run("status").output.contains("from the WAL: \(position)"))
      let slots = try run("slot", "show")
      #expect(slots.status == 0 && slots.output.contains("outboxd_anchor (anchor)"), "\(slots)")
      let verdict = try scene.finish(relay)
      #expect(verdict.ok, "\(verdict)")
      // The anchor outlives the daemon, and goes on request.
      let dropped = try run("slot", "drop-anchor")
      #expect(dropped.status == 0 && dropped.output.contains("creates a new one"), "\(dropped)")
      let again = try run("slot", "drop-anchor")
      #expect(again.status == 0 && again.output.contains("there is no anchor"), "\(again)")
      #expect(try scene.server.sql("SELECT count(*) FROM pg_replication_slots") == "1")
    }

    @Test func `a window that was switched off is told of with its anchor`() throws {
      let scene = try Scene()
      try scene.server.sql(
        "SELECT pg_copy_logical_replication_slot('outboxd', 'outboxd_anchor', false)", database: "shop")
      let relay = try scene.start()
      let line = try relay.waitForLog("the anchor") { $0.message.hasPrefix("replay.window is off") }
      #expect(line.level == "warning" && line.text.contains("outboxd slot drop-anchor"))
      #expect(try relay.terminate() == 0)
      #expect(
        try scene.server.sql("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'outboxd_anchor'")
          == "1")
    }
  }
}
