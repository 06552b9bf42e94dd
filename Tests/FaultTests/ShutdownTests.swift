// Owns: `pg_ctl stop -m fast` in every state of a relay and of a job: Postgres is let go, and nothing is lost.
import Foundation
import Glibc
import RelayTesting
import Testing

/// A server that is stopped and started in one state after the other, with the same relay and the same Kafka.
private final class StopScene {
  static let limit = 5.0

  let scene: Scene
  var server: PostgresServer { scene.server }
  var kafka: KafkaCluster { scene.kafka }

  init(version: Int) throws {
    let kafka = try KafkaCluster(nodes: 1, settings: ["auto.create.topics.enable": "false"])
    scene = try Scene(version: version, kafka: kafka)
    scene.configuration.relay = ["drain_timeout: 3s"]
    try createTopics(["event.order", "event.cart", "event.customer"], prefix: scene.workload.prefix)
  }

  func createTopics(_ names: [String], prefix: String) throws {
    for name in names {
      try kafka.tool(["topics", "--create", "--topic", "\(prefix).\(name)", "--partitions", "3"])
    }
  }

  func emit(_ count: Int, _ table: String = "orders", database: String = "shop") throws {
    try server.sql(
      "SELECT workload.emit('\(table)', array_agg(i), \(count)) FROM generate_series(1, 9) i",
      database: database)
  }

  /// Stops and starts Postgres. What must end by it ends before the start.
  func stop(
    _ state: String, location: SourceLocation = #_sourceLocation, whileStopped body: () throws -> Void = {}
  ) throws {
    let begin = Date()
    try server.stop(.fast)
    let seconds = Date().timeIntervalSince(begin)
    TestTools.say("Postgres \(server.version), \(state): stopped in \(seconds) s")
    #expect(seconds < Self.limit, "\(state)", sourceLocation: location)
    try body()
    try server.start()
  }

  func command(_ words: [String], _ configuration: RelayConfiguration? = nil) throws -> [String] {
    [words[0], "--config", try (configuration ?? scene.configuration).write()] + words.dropFirst()
  }

  /// Starts a job, stops Postgres once `isUnderWay`, and expects the job to say how it goes on.
  func interrupt(
    _ words: [String], _ configuration: RelayConfiguration? = nil, saying remedy: String,
    isUnderWay: (ChildProcess) throws -> Bool
  ) throws {
    let job = try ChildProcess([try OutboxdProcess.binary()] + command(words, configuration))
    try eventually("\(words) is under way\n\(job.errors)", within: 60) {
      if let status = job.poll() { throw HarnessError("it ended with \(status): \(job.errors)") }
      return try isUnderWay(job)
    }
    try stop(words.joined(separator: " ")) {
      _ = try eventually("\(words) ends\n\(job.errors)", within: 30) { job.poll() }
    }
    #expect(job.poll() == 75, "\(words): \(job.errors)")
    #expect(job.errors.contains("Postgres was shut down"), "\(job.errors)")
    #expect(job.errors.contains(remedy), "\(job.errors)")
  }

  func hasStored(_ events: Int, database: String = "shop") throws -> Bool {
    try server.sql(
      "SELECT coalesce(max(events), 0) >= \(events) FROM outboxd.job WHERE finished_at IS NULL",
      database: database) == "t"
  }

  @discardableResult
  func run(_ words: [String], _ configuration: RelayConfiguration? = nil) throws -> ChildProcess.Result {
    let result = try OutboxdProcess.command(try command(words, configuration), seconds: 120)
    #expect(result.status == 0, "\(words): \(result.errors)\(result.output)")
    return result
  }
}

/// How often the relay has begun to stream.
private func streams(_ relay: OutboxdProcess) -> Int {
  relay.log.count { $0.message == "streaming" }
}

private func lines(_ path: String) throws -> Int {
  try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").count
}

extension Faults {
  @Suite(.enabled(if: KafkaCluster.canBeControlled, "needs a Kafka that can be frozen"))
  struct ShutdownTests {
    @Test(arguments: [PostgresServer.versions.first, PostgresServer.versions.last].compactMap(\.self))
    func `Postgres stops within 5 s whatever the relay does, and nothing is lost`(version: Int) throws {
      let scene = try StopScene(version: version)
      let (server, workload) = (scene.server, scene.scene.workload)
      let relay = try scene.scene.start()
      try scene.emit(300)
      try workload.settle(relay)
      let count = streams(relay)
      try scene.stop("idle")

      try eventually("it streams again\n\(relay.tail)", within: 30) { streams(relay) > count }
      try scene.emit(5)
      try scene.stop("just back")

      try relay.waitUntilReady()
      let writer = try server.startSQL(
        """
        DO $$ BEGIN
          LOOP PERFORM workload.emit('orders', ARRAY[1, 2, 3], 50); COMMIT; PERFORM pg_sleep(0.005); END LOOP;
        END $$;
        """, database: "shop")
      try Faults.waitForDeliveries(relay, 200)
      try scene.stop("loaded")
      #expect(try writer.wait(seconds: 30) != 0)

      try relay.waitUntilReady()
      try server.sql(
        """
        ALTER ROLE outboxd CONNECTION LIMIT 0;
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'outboxd journal';
        """)
      try eventually("the second connection is refused\n\(relay.tail)", within: 30) {
        server.log.contains("too many connections for role")
      }
      try scene.emit(5)
      try scene.stop("second connection refused")
      try server.sql("ALTER ROLE outboxd CONNECTION LIMIT -1")

      try relay.waitUntilReady()
      let standby = try scene.scene.start(waitUntilReady: false)
      try standby.waitUntilNotReady(containing: "standby")
      try scene.stop("standby")
      #expect(try standby.terminate() == 0)

      try relay.waitUntilReady()
      try scene.emit(20, "payments")
      try relay.waitUntilNotReady(containing: "payments.account")
      try scene.emit(50)
      try scene.stop("topic held")
      try scene.createTopics(["payments.account"], prefix: workload.prefix)

      try relay.waitUntilReady()
      try scene.kafka.control("pause")
      try scene.emit(2000)
      try eventually("records are in flight\n\(relay.tail)", within: 30) {
        try relay.metric("outboxd_inflight_events") ?? 0 > 0
      }
      try scene.stop("Kafka away")
      try scene.kafka.control("resume")

      try relay.waitUntilReady()
      let verdict = try scene.scene.finish(relay, duplicatesAllowed: true)
      #expect(verdict.ok, "\(verdict)")
    }

    @Test(arguments: [PostgresServer.versions.first, PostgresServer.versions.last].compactMap(\.self))
    func `Postgres stops within 5 s whatever a job does, and the job can be resumed`(version: Int) throws {
      let scene = try StopScene(version: version)
      let (server, workload) = (scene.server, scene.scene.workload)
      let relay = try OutboxdProcess(scene.scene.configuration, environment: ["OUTBOXD_REPLAY_WINDOW": "1h"])
      try relay.waitUntilReady()
      try eventually("the anchor is there\n\(relay.tail)", within: 60) {
        try server.sql("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'outboxd_anchor'") == "1"
      }
      let from = try server.sql("SELECT pg_current_wal_insert_lsn()")
      for _ in 0..<20 { try scene.emit(100) }
      try workload.settle(relay)

      let file = TestFolder.make("replay") + "/events"
      try scene.interrupt(
        ["replay", "--from", from, "--source", "wal", "--rate", "50", "--to-file", file],
        saying: "outboxd replay --resume --job"
      ) { _ in try scene.hasStored(20) }
      try scene.run(["replay", "--resume", "--to-file", file, "--rate", "100000"])
      #expect(try lines(file) >= 2000)

      try scene.kafka.control("pause")
      try scene.interrupt(
        ["replay", "--from", from, "--source", "wal"], saying: "start it again"
      ) { $0.errors.contains("replaying from the WAL") }
      try scene.kafka.control("resume")
      #expect(try relay.terminate() == 0)

      // Tables of another database, which no relay has read.
      let other = try Workload(server: server, kafka: scene.kafka, database: "fill")
      var configuration = other.configuration()
      configuration.postgres = ["slot: fill"]
      configuration.relay = ["drain_timeout: 3s"]
      try scene.emit(2000, database: "fill")
      try other.initialize(configuration)
      let filled = TestFolder.make("backfill") + "/events"
      try scene.interrupt(
        ["backfill", "--rate", "50", "--to-file", filled], configuration, saying: "outboxd backfill --resume"
      ) { _ in try scene.hasStored(20, database: "fill") }
      try scene.run(["backfill", "--resume", "--to-file", filled, "--rate", "100000"], configuration)
      #expect(try lines(filled) >= 2000)

      try scene.createTopics(["event.order", "event.cart", "event.customer"], prefix: other.prefix)
      try scene.emit(1000, database: "fill")
      try scene.interrupt(["recover", "--tables", "--rate", "20"], configuration, saying: "start it again") {
        $0.errors.contains("reading a table")
      }
      try scene.run(["recover", "--tables"], configuration)
    }
  }
}
