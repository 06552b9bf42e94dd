// Owns: the outboxes of Tests/oracle/workload.sql in a server, the load on them, and the oracle's verdict.
import Foundation
import Glibc

/// What the oracle found. See Tests/oracle/oracle.py.
public struct Verdict: Decodable, CustomStringConvertible {
  public let ok: Bool
  public let committed: Int
  public let delivered: Int
  public let messages: Int
  public let duplicates: Int
  public let rewinds: Int
  public let modes: [String: Int]
  public let faults: [String: Int]
  public let samples: [String: [String]]

  public var description: String {
    "committed \(committed), delivered \(delivered), messages \(messages), duplicates \(duplicates), "
      + "rewinds \(rewinds), faults \(faults), \(samples)"
  }
}

/// Four services' outboxes in one database, with the truth about them. A plain role owns and writes them.
public final class Workload {
  public static let folder = TestTools.repository + "/Tests/oracle"
  public static let service = "service"

  public let server: PostgresServer
  public let kafka: KafkaCluster
  public let database: String
  /// Every topic begins with it.
  public let prefix: String

  public init(server: PostgresServer, kafka: KafkaCluster, database: String = "shop") throws {
    self.server = server
    self.kafka = kafka
    self.database = database
    prefix = TestTools.uniqueName("test")
    try server.sql("CREATE DATABASE \(database)")
    let script = try String(contentsOfFile: Self.folder + "/workload.sql", encoding: .utf8)
    let places = [("DATABASE", database), ("SCHEMA", "public")]
    try server.createRole(Self.service)
    try server.sql(
      places.map { "GRANT CREATE ON \($0.0) \($0.1) TO \(Self.service);\n" }.joined()
        + "SET ROLE \(Self.service);\n" + script
        + "INSERT INTO truth.setting VALUES ('\(prefix)');\nRESET ROLE;\n"
        + places.map { "REVOKE CREATE ON \($0.0) \($0.1) FROM \(Self.service);\n" }.joined(),
      database: database)
  }

  public func configuration() -> RelayConfiguration {
    var configuration = RelayConfiguration(
      conninfo: server.conninfo(database), brokers: kafka.bootstrap, outboxes: outboxes)
    configuration.reader = "outboxd_reader"
    // New topics are seen sooner.
    configuration.properties["topic.metadata.refresh.interval.ms"] = "5000"
    return configuration
  }

  private var outboxes: String {
    """
    - table: public.outbox
      topic: \(prefix).event.{aggregatetype}
    - table: payments.outbox_events
      source: /payments
      topic: \(prefix).payments.{aggregatetype}
      content_mode: structured
      dataschema: https://schemas.example/payments/{type}
    - table: inventory.outbox
      source: https://inventory.example/{database}
      topic: "\(prefix).{type}"
    - table: notifications.messages
      source: /notifications
      topic: \(prefix).notifications.v{schema_version}
      key: "{tenant}-{recipient}"
      content_mode: structured
      columns: {id: message_id, type: kind, payload: body, subject: recipient, time: occurred}
      extensions: {correlationid: correlation, schemaversion: schema_version}
      partitionkey: true
    """
  }

  /// `outboxd init` for these outboxes.
  public func initialize(_ configuration: RelayConfiguration? = nil) throws {
    try OutboxdProcess.initialize(
      configuration ?? self.configuration(), admin: server.adminConninfo(database))
  }

  // Load.

  /// Four writers at once, each with `transactions` of about `size` events.
  public func run(writers: Int = 4, transactions: Int, size: Int, seed: UInt32, keys: Int = 200) throws {
    let processes = try (1...writers).map { worker in
      let seed = Double((seed &* 31 &+ UInt32(worker)) % 1000) / 1000
      return try server.startSQL(
        "CALL workload.run(\(worker), \(seed), \(transactions), \(size), \(keys));", database: database,
        user: Self.service)
    }
    for process in processes {
      let status = try process.wait(seconds: 300)
      guard status == 0 else { throw HarnessError("a writer ended with \(status): \(process.errors)") }
    }
  }

  /// Writers that go on until `stopLoad`. They end by themselves when the server goes away.
  public func startLoad(writers: Int = 3, size: Int = 40, pause: Double = 0.005, seed: UInt32) throws
    -> [ChildProcess]
  {
    try server.sql("UPDATE truth.control SET stop = false", database: database)
    return try (1...writers).map { worker in
      let seed = Double((seed &* 31 &+ UInt32(worker)) % 1000) / 1000
      return try server.startSQL(
        "CALL workload.load(\(worker), \(seed), \(size), \(pause));", database: database, user: Self.service)
    }
  }

  public func stopLoad(_ writers: [ChildProcess]) throws {
    try server.sql("UPDATE truth.control SET stop = true", database: database)
    for writer in writers { try writer.wait(seconds: 60) }
  }

  /// Transactions that are prepared and then committed or rolled back, others in between.
  public func runPrepared(_ count: Int) throws {
    var script = ""
    for number in 0..<count {
      let table = ["orders", "payments", "inventory", "notifications"][number % 4]
      script += """
        BEGIN; SELECT workload.emit('\(table)', ARRAY[\(100_000 + number)], 3);
        SELECT workload.emit_undone('\(table)', ARRAY[\(100_000 + number)], 3);
        PREPARE TRANSACTION 'p\(number)';
        BEGIN; SELECT workload.emit('orders', ARRAY[\(200_000 + number)], 2); COMMIT;

        """
    }
    for number in 0..<count {
      script += number % 3 == 2 ? "ROLLBACK PREPARED 'p\(number)';\n" : "COMMIT PREPARED 'p\(number)';\n"
    }
    try server.sql(script, database: database, user: Self.service)
  }

  // The end.

  /// Waits until the slot has confirmed everything that is in the WAL now. Fails at once when the relay ends.
  public func settle(_ relay: OutboxdProcess, within seconds: Double = 120) throws {
    try Self.settle(server: server, database: database, relay: relay, within: seconds)
  }

  public static func settle(
    server: PostgresServer, database: String, relay: OutboxdProcess, within seconds: Double
  ) throws {
    // Commits are flushed; other records may wait in a buffer for seconds.
    let end = try server.sql("SELECT pg_current_wal_flush_lsn()", database: database)
    func slots() -> String { (try? server.sql("SELECT * FROM pg_replication_slots")) ?? "(no answer)" }
    try eventually("the slot confirms \(end): \(slots())\n\(relay.tail)", within: seconds) { () -> Bool? in
      if let status = relay.process.poll() {
        throw HarnessError("outboxd ended with \(status)\n\(relay.tail)")
      }
      // Through the backend that streams, whichever slot it is.
      let query = """
        SELECT coalesce(bool_or(confirmed_flush_lsn >= '\(end)'), false) FROM pg_replication_slots
        WHERE database = '\(database)' AND plugin = 'pgoutput' AND active
        """
      if try server.sql(query) == "t" { return true }
      usleep(50_000)
      return nil
    }
  }

  /// What an independent consumer finds, against what was committed.
  /// `rewinds`: how often a partition may go back; nil for any number.
  /// `unsequenced`: some of it came from tables, and has no sequence.
  public func judge(
    duplicatesAllowed: Bool = false, rewinds: Int? = nil, unsequenced: Bool = false
  ) throws -> Verdict {
    try Self.judge(
      server: server, database: database, brokers: kafka.bootstrap, prefix: prefix,
      duplicatesAllowed: duplicatesAllowed, rewinds: rewinds, unsequenced: unsequenced)
  }

  public static func judge(
    server: PostgresServer, database: String, brokers: String, prefix: String,
    duplicatesAllowed: Bool = false, rewinds: Int? = nil, unsequenced: Bool = false
  ) throws -> Verdict {
    var command = [
      TestTools.python, "-B", folder + "/oracle.py", "--psql", server.adminConninfo(database), "--brokers",
      brokers, "--prefix", prefix + ".",
    ]
    if duplicatesAllowed { command += ["--duplicates", "allowed"] }
    if unsequenced { command.append("--unsequenced") }
    if let rewinds { command += ["--rewinds", "\(rewinds)"] }
    let result = try ChildProcess.run(command, seconds: 300)
    guard let line = result.output.split(separator: "\n").last,
      let verdict = try? JSONDecoder().decode(Verdict.self, from: Data(line.utf8))
    else { throw HarnessError("the oracle ended with \(result.status): \(result.errors)\(result.output)") }
    return verdict
  }

  /// How many messages the topics hold.
  public func count() throws -> Int {
    let output = try ChildProcess.check([
      TestTools.python, "-B", Self.folder + "/oracle.py", "--count", "--brokers", kafka.bootstrap, "--prefix",
      prefix + ".",
    ])
    guard let count = Int(output.trimmingCharacters(in: .whitespacesAndNewlines)) else {
      throw HarnessError("the oracle counts \(output)")
    }
    return count
  }
}
