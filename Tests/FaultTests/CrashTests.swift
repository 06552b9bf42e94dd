// Owns: outboxd killed: at random moments, and when all was confirmed.
import Foundation
import Glibc
import RelayTesting
import Testing

extension Faults {
  @Suite struct CrashTests {
    /// Kills outboxd again and again under load, mostly soon after it has begun to deliver.
    /// - Returns: how many events were recognized as delivered before.
    private func kill(_ scene: Scene, times: Int, _ random: inout SeededGenerator) throws -> Double {
      let seed = UInt32(truncatingIfNeeded: random.next())
      let writers = try scene.workload.startLoad(size: 40, pause: 0.02, seed: seed)
      var large: [ChildProcess] = []
      var recognized = 0.0
      for cycle in 1...times {
        let relay = try scene.start(waitUntilReady: false)
        if cycle % 10 == 5 {
          // A transaction that is long enough to be killed within.
          large.append(
            try scene.server.startSQL(
              "SELECT workload.emit('orders', ARRAY[1, 2, 3, 4, 5, 6, 7], 10000)", database: "shop"))
        }
        if cycle % 5 == 0 {
          // From before the first connection on.
          Faults.last(seconds: Double.random(in: 0.02...0.8, using: &random))
        } else {
          // The former is counted at once, the latter once a second, as the journal is written.
          let count =
            cycle % 2 == 0 ? "outboxd_delivery_latency_seconds_count" : "outboxd_events_delivered_total"
          try eventually("an event is delivered\n\(relay.tail)", within: 60) {
            (try? relay.metric(count) ?? 0) ?? 0 > 0
          }
          Faults.last(seconds: Double.random(in: 0...0.2, using: &random))
          recognized += try relay.metric("outboxd_events_recognized_total") ?? 0
        }
        try #require(relay.process.isRunning, "\(relay.tail)")
        relay.process.signal(SIGKILL)
        #expect(try relay.process.wait(seconds: 10) == -SIGKILL)
      }
      for process in large { #expect(try process.wait(seconds: 60) == 0, "\(process.errors)") }
      try scene.workload.stopLoad(writers)
      return recognized
    }

    @Test(arguments: [(15, 100), (18, 15)])
    func `killed at random moments under load, nothing is lost and nothing comes twice`(
      version: Int, kills: Int
    ) throws {
      guard PostgresServer.versions.contains(version) else { return }
      var random = SeededGenerator("CrashTests \(version)")
      let scene = try Scene(version: version)
      let begin = Date()
      let recognized = try kill(scene, times: kills, &random)
      print(
        "\(kills) kills in \(Int(Date().timeIntervalSince(begin))) s, \(Int(recognized)) events recognized")
      #expect(recognized > 0)
      let verdict = try scene.finish(try scene.start())
      #expect(verdict.ok, "\(verdict)")
      #expect(verdict.committed > kills * 100)
    }

    @Test func `killed without a check of what Kafka has, nothing is lost, and events come twice`() throws {
      let kills = 10
      var random = SeededGenerator("CrashTests without")
      let scene = try Scene()
      scene.configuration.relay = ["skip_delivered: false"]
      #expect(try kill(scene, times: kills, &random) == 0)
      // Each kill lets a partition go back once, to the checkpoint.
      let verdict = try scene.finish(try scene.start(), duplicatesAllowed: true, rewinds: kills)
      #expect(verdict.ok, "\(verdict)")
      #expect(verdict.duplicates > 0)
    }

    @Test(.enabled(if: KafkaCluster.canBeControlled, "needs a Kafka that can be stopped"))
    func `killed together with Kafka, nothing is lost and nothing comes twice`() throws {
      let kafka = try KafkaCluster(nodes: 1)
      let scene = try Scene(kafka: kafka)
      let writers = try scene.workload.startLoad(pause: 0.02, seed: 11)
      var recognized = 0.0
      var relay = try scene.start()
      for isFirst in [true, false] {
        try Faults.waitForDeliveries(relay, 500)
        recognized += try relay.metric("outboxd_events_recognized_total") ?? 0
        relay.process.signal(SIGKILL)
        try kafka.control("kill")
        #expect(try relay.process.wait(seconds: 10) == -SIGKILL)
        // It must not take a Kafka that is away for one that has nothing.
        if isFirst { relay = try scene.start(waitUntilReady: false) }
        if isFirst { try relay.waitUntilNotReady() }
        try kafka.start()
        if !isFirst { relay = try scene.start(waitUntilReady: false) }
      }
      try Faults.waitForDeliveries(relay, 500)
      recognized += try relay.metric("outboxd_events_recognized_total") ?? 0
      #expect(recognized > 0)
      try scene.workload.stopLoad(writers)
      let verdict = try scene.finish(relay)
      #expect(verdict.ok, "\(verdict)")
    }

    /// Has `count` events delivered that the journal does not hear of, and kills the relay.
    private func killUnjournaled(_ relay: OutboxdProcess, _ scene: Scene, _ count: Int) throws {
      let server = scene.server
      let lock = try server.startSQL(
        "BEGIN; LOCK outboxd.checkpoint IN EXCLUSIVE MODE; SELECT pg_sleep(60)", database: "shop")
      try eventually("the journal is locked", within: 10) {
        try server.sql(
          "SELECT count(*) FROM pg_locks WHERE relation = 'outboxd.checkpoint'::regclass AND granted AND "
            + "mode = 'ExclusiveLock'", database: "shop") == "1"
      }
      let metric = "outboxd_delivery_latency_seconds_count"
      let before = try relay.metric(metric) ?? 0
      try emit(count, scene)
      try eventually("they are delivered\n\(relay.tail)", within: 30) {
        try relay.metric(metric) ?? 0 >= before + Double(count)
      }
      relay.process.signal(SIGKILL)
      try relay.process.wait(seconds: 10)
      // A statement that waits for the lock would be carried out.
      try eventually("the journal's connection is gone", within: 10) {
        try server.sql(
          "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'outboxd%'"
        ) == "0"
      }
      lock.kill()
      try server.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)'")
    }

    private func emit(_ count: Int, _ scene: Scene) throws {
      try scene.server.sql(
        "SELECT workload.emit('orders', array_agg(i), \(count)) FROM generate_series(1, 9) i",
        database: "shop")
    }

    @Test(arguments: [PostgresServer.versions.first, PostgresServer.versions.last].compactMap(\.self))
    func `what a changed configuration hides is told of once for each topic, and counted`(version: Int)
      throws
    {
      let scene = try Scene(version: version)
      let ending = "events since the checkpoint may be sent twice"
      func tells(_ relay: OutboxdProcess) -> [OutboxdProcess.LogLine] {
        relay.log.filter { $0.message.hasSuffix(ending) }
      }
      var relay = try scene.start()
      try emit(90, scene)
      try scene.workload.settle(relay)
      let topics = try scene.server.integer(
        "SELECT count(DISTINCT aggregatetype) FROM public.outbox", database: "shop")
      // As it was, nothing comes twice and nothing is told.
      try killUnjournaled(relay, scene, 300)
      relay = try scene.start()
      try scene.workload.settle(relay)
      #expect(try relay.metric("outboxd_events_recognized_total") == 300)
      #expect(try relay.metric("outboxd_events_resent_total") == 0 && tells(relay).isEmpty)

      let topic = "event.{aggregatetype}"
      let changes: [(String, String, reason: String)] = [
        (topic, topic + "\n  content_mode: structured", "other bytes"),
        (topic, "moved.{aggregatetype}", "other outboxes"),
      ]
      for (old, new, reason) in changes {
        try killUnjournaled(relay, scene, 300)
        scene.configuration.outboxes = scene.configuration.outboxes.replacingOccurrences(of: old, with: new)
        relay = try scene.start()
        try scene.workload.settle(relay)
        #expect(try relay.metric("outboxd_events_resent_total") == 300, "\(relay.tail)")
        #expect(tells(relay).count == topics, "\(relay.tail)")
        for line in tells(relay) {
          #expect(line.fields["reason"]?.contains(reason) == true, "\(line.text)")
          #expect(line.fields["from"] != nil && line.fields["through"] != nil, "\(line.text)")
        }
      }
      try killUnjournaled(relay, scene, 300)
      scene.configuration.relay = ["skip_delivered: false"]
      relay = try scene.start()
      try scene.workload.settle(relay)
      #expect(try relay.metric("outboxd_events_resent_total") == 300, "\(relay.tail)")
      #expect(tells(relay).count == 1, "\(relay.tail)")

      // After a stop in good order nothing can come twice, whatever is changed.
      for settings in [["skip_delivered: false"], []] {
        #expect(try relay.terminate() == 0)
        scene.configuration.relay = settings
        scene.configuration.outboxes = scene.configuration.outboxes.replacingOccurrences(
          of: "moved.", with: "moved.again.")
        try emit(300, scene)
        relay = try scene.start()
        try scene.workload.settle(relay)
        #expect(try relay.metric("outboxd_events_received_total") == 300)
        #expect(try relay.metric("outboxd_events_resent_total") == 0 && tells(relay).isEmpty, "\(relay.tail)")
      }
      #expect(try relay.terminate() == 0)
    }

    @Test func `killed when all was confirmed, nothing is sent twice`() throws {
      let scene = try Scene()
      for seed in UInt32(1)...3 {
        let relay = try scene.start()
        // There was nothing to look for.
        #expect(!relay.logText.contains("checking which events Kafka already has"))
        try scene.workload.run(transactions: 20, size: 10, seed: seed)
        try scene.workload.settle(relay)
        relay.process.signal(SIGKILL)
        try relay.process.wait(seconds: 10)
      }
      let verdict = try scene.finish(try scene.start())
      #expect(verdict.ok, "\(verdict)")
    }
  }
}
