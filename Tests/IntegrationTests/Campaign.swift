// Owns: one seed of the table campaign: random steps, the relay and the jobs among them, and what they owe.
// Must not know: how a table or a row is made, and how the end is judged.
import Foundation
import Glibc
import RelayTesting

/// Reads of tables that ran to their end, or were interrupted.
struct CampaignRead {
  var command: String
  /// Milliseconds since 1970.
  var began: Int64
  var ended: Int64
  /// By table, as the log tells it.
  var orders: [String: String]
  /// The rows that there were, and in which table.
  var rows: [String: String]
  /// How many rows the report calls doubtful; nil: it said only that there are some, or promises less than that.
  var doubtful: Int?
}

final class Campaign {
  let seed: UInt64
  let world: CampaignWorld
  let prefix: String
  let brokers: String
  var faults: [String] = []
  var reads: [CampaignRead] = []
  var relay: OutboxdProcess?
  var hasRun = false
  var configuration: RelayConfiguration
  let path: String
  let environment: [String: String]
  /// Halts that are no fault at the next start.
  var halts: Set<Int32> = []
  /// Somebody broke what the journal says of the start.
  var hadGap = false
  var hasJoined = false
  /// Tables that a relay has seen. Nobody can know of others once they have lost their outbox.
  var seen: Set<String> = []
  var places: [(number: Int, lsn: String)] = []

  var server: PostgresServer { world.server }
  var slot: String { world.database }

  init(seed: UInt64, server: PostgresServer, kafka: KafkaCluster) throws {
    self.seed = seed
    var random = SeededGenerator(seed: seed)
    world = try CampaignWorld(server, "c\(seed)", &random)
    prefix = TestTools.uniqueName("campaign")
    brokers = kafka.bootstrap
    configuration = RelayConfiguration(conninfo: server.conninfo(world.database), brokers: kafka.bootstrap)
    configuration.properties["topic.metadata.refresh.interval.ms"] = "5000"
    configuration.postgres = ["slot: \(world.database)"]
    path = TestFolder.make("campaign") + "/outboxd.yaml"
    environment = random.chance(25) ? ["OUTBOXD_REPLAY_WINDOW": "1h"] : [:]
    world.tell("Postgres \(server.version), replay window \(environment.isEmpty ? "off" : "on")")
  }

  // The whole.

  func run() throws {
    var random = SeededGenerator(seed: seed &+ 1)
    try begin(&random)
    for number in 0..<Int.random(in: 6...12, using: &random) {
      // A step's choices do not depend on how long those before it took.
      var random = SeededGenerator(seed: seed &* 1000 &+ UInt64(number))
      try step(&random)
    }
    var last = SeededGenerator(seed: seed &* 1000 &+ 999)
    try world.finishPrepared(&last)
    try start()
    try settle()
    try stop()
  }

  func clean() throws {
    relay?.process.kill()
    let prepared = try world.sql(
      "SELECT 'ROLLBACK PREPARED ''' || gid || ''';' FROM pg_prepared_xacts WHERE database = current_database()"
    )
    try world.sql(prepared)
    try server.sql(
      """
      SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '\(slot)';
      DROP DATABASE \(slot) WITH (FORCE);
      """)
  }

  func fault(_ text: String) {
    world.tell("FAULT \(text)")
    faults.append(text)
  }

  /// What there was before the slot, and how it comes to Kafka.
  func begin(_ random: inout SeededGenerator) throws {
    for index in world.outboxes.indices where index == 0 || random.chance(60) {
      world.outboxes[index].isConfigured = true
    }
    for _ in 0..<3 { try world.write(&random) }
    for _ in 0..<Int.random(in: 0...3, using: &random) { try quiet(&random) }
    try world.finishPrepared(&random)
    try initialize()
    let isMadeByBackfill = random.chance(25)
    if isMadeByBackfill {
      // As if nobody had made the slot: the backfill does.
      try world.act("SELECT pg_drop_replication_slot('\(slot)'); DELETE FROM outboxd.checkpoint;")
      for outbox in world.configured { world.duties[outbox.name] = "before" }
      hasSlot = false
    }
    for _ in 0..<Int.random(in: 0...3, using: &random) { try quiet(&random) }
    if isMadeByBackfill || random.chance(80) { try backfill(&random) }
  }

  var hasSlot = false

  func initialize() throws {
    try write()
    let result = try command(["init", "--apply", "--as", server.adminConninfo(world.database)])
    if result.status != 0 { fault("init: \(result.status) \(result.errors)") }
    for outbox in world.configured { world.duties[outbox.name] = "stream" }
    hasSlot = true
    see()
    for index in world.outboxes.indices where world.outboxes[index].isConfigured {
      world.outboxes[index].wasMember = true
    }
  }

  func step(_ random: inout SeededGenerator) throws {
    let duration = Date()
    switch Int.random(in: 0..<100, using: &random) {
    case 0..<30: try quiet(&random)
    case 30..<40: try relay == nil ? start() : try stop()
    case 40..<44: try kill()
    case 44..<56: try add(&random)
    case 56..<61: try remove(&random)
    case 61..<76: try backfill(&random)
    case 76..<84: try replay(&random)
    default: try gap(&random)
    }
    world.tell("(\(Int(Date().timeIntervalSince(duration) * 1000)) ms)")
  }

  /// What leaves no gap.
  func quiet(_ random: inout SeededGenerator) throws {
    switch Int.random(in: 0..<100, using: &random) {
    case 0..<38: try world.write(&random)
    case 38..<50: try world.undo(&random, of: world.outboxes)
    case 50..<62: try world.vacuum(&random)
    case 62..<72: try world.rewrite(&random)
    case 72..<77: try world.alter(&random)
    case 77..<80: try world.resetStatistics()
    case 80..<85: try world.attach(&random)
    case 85..<90: try world.detach(&random)
    case 90..<95: try swap(&random)
    default: try restart(&random)
    }
  }

  func restart(_ random: inout SeededGenerator) throws {
    let mode = random.pick([PostgresServer.StopMode.immediate, .immediate, .fast])
    world.tell("Postgres restarts, \(mode)")
    try server.restart(mode)
  }

  /// A swap that the publication follows.
  func swap(_ random: inout SeededGenerator) throws {
    let outbox = random.pick(world.outboxes)
    if !hasSlot || !outbox.isConfigured {
      // Its rows are nobody's any more.
      try world.swap(outbox.name, &random, follow: "")
      return _ = try world.act(
        "UPDATE truth.event SET duty = 'outside' WHERE box = '\(outbox.name)' AND duty = 'before';")
    }
    try world.swap(outbox.name, &random, follow: "ALTER PUBLICATION outboxd SET TABLE \(tables);")
    hasJoined = true
    try world.act(
      "UPDATE truth.event SET duty = 'outside' WHERE box = '\(outbox.name)' AND duty = 'before';")
    // What is done to the table afterwards hides from a later start in which transaction it was.
    if relay == nil { halts.insert(19) }
  }

  var tables: String { world.configured.map { "public.\($0.name)" }.joined(separator: ", ") }

  // Commands.

  func write() throws {
    configuration.outboxes = world.configured.map {
      "- table: public.\($0.name)\n  topic: \(prefix).\($0.name)"
    }.joined(separator: "\n")
    try Data(configuration.text.utf8).write(to: URL(fileURLWithPath: path))
  }

  func command(_ words: [String]) throws -> ChildProcess.Result {
    world.tell("outboxd " + words.joined(separator: " "))
    let result = try OutboxdProcess.command(
      [words[0], "--config", path] + words.dropFirst(), environment: environment, seconds: 60)
    world.tell("  ended with \(result.status)")
    return result
  }

  func see() {
    for outbox in world.configured { seen.formUnion([outbox.table] + outbox.partitions.values) }
  }

  static func now() -> Int64 { Int64(Date().timeIntervalSince1970 * 1000) }
}

// The relay.
extension Campaign {
  /// Starts it, and repairs what it halts for.
  func start() throws {
    guard relay == nil else { return }
    for attempt in 0..<2 {
      world.tell("outboxd run")
      let process = try OutboxdProcess(configuration, environment: environment)
      let isReady = try eventually("outboxd is ready\n\(process.tail)", within: 60) { () -> Bool? in
        if process.process.poll() != nil { return false }
        return (try? process.get("/readyz"))?.status == 200 ? true : nil
      }
      if isReady {
        relay = process
        hasRun = true
        halts = []
        return
      }
      let status = try process.process.wait(seconds: 1)
      world.tell("  halted with \(status)")
      guard attempt == 0, halts.contains(status) else {
        fault("run halts with \(status), and \(halts) are explained: \(process.tail)")
        throw HarnessError("the relay does not start")
      }
      var random = SeededGenerator(seed: seed &* 77)
      try recover(["stream", "gap"].filter { $0 == "gap" }, interruptions: 0, &random)
    }
  }

  func stop() throws {
    guard let relay else { return }
    world.tell("SIGTERM to outboxd run")
    let status = try relay.terminate()
    self.relay = nil
    world.tell("  ended with \(status)")
    if status != 0, !halts.contains(status) { fault("run ended with \(status): \(relay.tail)") }
  }

  func kill() throws {
    guard let relay else { return }
    world.tell("SIGKILL to outboxd run")
    relay.process.kill()
    self.relay = nil
    try awaitFreeSlot()
  }

  func awaitFreeSlot() throws {
    try eventually("nobody reads the slot", within: 60) {
      try server.sql("SELECT count(*) FROM pg_replication_slots WHERE database = '\(slot)' AND active") == "0"
    }
  }

  /// Waits until the stream is delivered.
  func settle() throws {
    guard let relay else { return }
    world.tell("settle")
    // An idle slot follows late what is no event.
    let end = try world.mark()
    try eventually("\(end) is confirmed\n\(relay.tail)", within: 60) { () -> Bool? in
      if let status = relay.process.poll() { throw HarnessError("run ended with \(status)\n\(relay.tail)") }
      return try server.sql(
        "SELECT confirmed_flush_lsn > '\(end)' FROM pg_replication_slots WHERE slot_name = '\(slot)'") == "t"
        ? true : nil
    }
    try world.sql("UPDATE truth.event SET duty = 'done' WHERE duty = 'stream'")
    see()
    places.append(
      (
        try server.integer("SELECT coalesce(max(n), 0) FROM truth.event", database: slot),
        try world.sql("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '\(slot)'")
      ))
  }

  /// An outbox joins.
  func add(_ random: inout SeededGenerator) throws {
    guard let index = world.outboxes.firstIndex(where: { !$0.isConfigured }), halts.isEmpty else { return }
    // One that was taken out and put back between two runs may lack rows.
    let isNew = !world.outboxes[index].wasMember
    world.tell("add \(world.outboxes[index].name)")
    world.outboxes[index].isConfigured = true
    try write()
    let words = ["init", "--config", path, "--apply", "--as", server.adminConninfo(world.database)]
    world.tell(words.joined(separator: " "))
    let process = try ChildProcess([try OutboxdProcess.binary()] + words, environment: environment)
    // It may wait for what is prepared.
    let deadline = Date().addingTimeInterval(1)
    while process.isRunning, Date() < deadline { usleep(10_000) }
    if process.isRunning { try world.finishPrepared(&random) }
    let status = try process.wait(seconds: 60)
    if status != 0 { fault("init ended with \(status): \(process.errors)") }
    world.outboxes[index].wasMember = true
    world.duties[world.outboxes[index].name] = "stream"
    hasJoined = true
    if !isNew { halts.insert(19) }
    if random.chance(50) { try world.write(&random) }
    if relay != nil {
      halts.insert(19)
      try stop()
      if isNew { halts.remove(19) }
      try start()
    }
    if random.chance(80) {
      for _ in 0..<Int.random(in: 0...2, using: &random) { try quiet(&random) }
      try backfill(&random, of: world.outboxes[index])
    }
  }

  /// An outbox leaves.
  func remove(_ random: inout SeededGenerator) throws {
    guard world.configured.count > 1, halts.isEmpty else { return }
    try world.finishPrepared(&random)
    try start()
    try settle()
    try stop()
    let outbox = random.pick(world.configured)
    world.tell("remove \(outbox.name)")
    for index in world.outboxes.indices where world.outboxes[index].name == outbox.name {
      world.outboxes[index].isConfigured = false
    }
    try write()
    world.duties[outbox.name] = "before"
    // When it joins again, all of this was before.
    try world.act(
      """
      ALTER PUBLICATION outboxd DROP TABLE public.\(outbox.name);
      UPDATE truth.event SET origin = 'before' WHERE box = '\(outbox.name)';
      """)
  }
}
