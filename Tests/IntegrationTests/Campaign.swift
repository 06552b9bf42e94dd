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
  private var relay: OutboxdProcess?
  private var hasRun = false
  private var configuration: RelayConfiguration
  private let path: String
  private let environment: [String: String]
  /// Halts that are no fault at the next start.
  private var halts: Set<Int32> = []
  /// Somebody broke what the journal says of the start.
  private var hadGap = false
  private var hasJoined = false
  /// Tables that a relay has seen. Nobody can know of others once they have lost their outbox.
  private var seen: Set<String> = []
  private var places: [(number: Int, lsn: String)] = []

  var server: PostgresServer { world.server }
  private var slot: String { world.database }

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
  private func begin(_ random: inout SeededGenerator) throws {
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

  private var hasSlot = false

  private func initialize() throws {
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

  private func step(_ random: inout SeededGenerator) throws {
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
  private func quiet(_ random: inout SeededGenerator) throws {
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

  private func restart(_ random: inout SeededGenerator) throws {
    let mode = random.pick([PostgresServer.StopMode.immediate, .immediate, .fast])
    world.tell("Postgres restarts, \(mode)")
    try server.restart(mode)
  }

  /// A swap that the publication follows.
  private func swap(_ random: inout SeededGenerator) throws {
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

  private var tables: String { world.configured.map { "public.\($0.name)" }.joined(separator: ", ") }

  // Commands.

  private func write() throws {
    configuration.outboxes = world.configured.map {
      "- table: public.\($0.name)\n  topic: \(prefix).\($0.name)"
    }.joined(separator: "\n")
    try Data(configuration.text.utf8).write(to: URL(fileURLWithPath: path))
  }

  private func command(_ words: [String]) throws -> ChildProcess.Result {
    world.tell("outboxd " + words.joined(separator: " "))
    let result = try OutboxdProcess.command(
      [words[0], "--config", path] + words.dropFirst(), environment: environment, seconds: 60)
    world.tell("  ended with \(result.status)")
    return result
  }

  private func see() {
    for outbox in world.configured { seen.formUnion([outbox.table] + outbox.partitions.values) }
  }

  private static func now() -> Int64 { Int64(Date().timeIntervalSince1970 * 1000) }
}

// The relay.
extension Campaign {
  /// Starts it, and repairs what it halts for.
  private func start() throws {
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

  private func stop() throws {
    guard let relay else { return }
    world.tell("SIGTERM to outboxd run")
    let status = try relay.terminate()
    self.relay = nil
    world.tell("  ended with \(status)")
    if status != 0, !halts.contains(status) { fault("run ended with \(status): \(relay.tail)") }
  }

  private func kill() throws {
    guard let relay else { return }
    world.tell("SIGKILL to outboxd run")
    relay.process.kill()
    self.relay = nil
    try awaitFreeSlot()
  }

  private func awaitFreeSlot() throws {
    try eventually("nobody reads the slot", within: 60) {
      try server.sql("SELECT count(*) FROM pg_replication_slots WHERE database = '\(slot)' AND active") == "0"
    }
  }

  /// Waits until the stream is delivered.
  private func settle() throws {
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
  private func add(_ random: inout SeededGenerator) throws {
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
  private func remove(_ random: inout SeededGenerator) throws {
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

// The jobs.
extension Campaign {
  private func backfill(_ random: inout SeededGenerator, of outbox: CampaignOutbox? = nil) throws {
    if !halts.isEmpty { try start() }
    let isOne = random.chance(40) || outbox != nil
    let outboxes = isOne ? [outbox ?? random.pick(world.configured)] : world.configured
    let words = isOne ? ["--outbox", "public.\(outboxes[0].name)"] : []
    let writer = hasSlot && random.chance(30) ? try world.startWriter(&random) : nil
    let interruptions = random.pick([0, 0, 1, 1, 2, 3])
    var status = try job("backfill", words, outboxes, ["before"], interruptions, &random)
    if status == 2, hadGap || !hasSlot {
      status = try job(
        "backfill", words + ["--accept-duplicates"], outboxes, ["before", "outside"], interruptions, &random)
    }
    if status != 0 { fault("backfill ended with \(status)") }
    if let writer, try writer.wait(seconds: 60) != 0 { throw HarnessError("writer: \(writer.errors)") }
  }

  private func replay(_ random: inout SeededGenerator) throws {
    guard places.count > 1, halts.isEmpty else { return }
    let from = Int.random(in: 0..<places.count - 1, using: &random)
    let to = Int.random(in: from + 1..<places.count, using: &random)
    let file = TestFolder.make("replay") + "/events"
    var words = ["--source", "table", "--from", places[from].lsn, "--to-file", file]
    if random.chance(60) { words += ["--to", places[to].lsn] }
    let status = try job(
      "replay", words, world.configured, [], random.pick([0, 0, 1]), &random, file: file,
      range: (
        places[from].number, words.contains("--to") ? places[to].number : places[places.count - 1].number
      ))
    // 26: the journal does not reach back so far.
    if status != 0, status != 26 { fault("replay ended with \(status)") }
  }

  /// - Parameter wish: `--tables`, or nothing.
  private func recover(
    _ duties: [String], wish: [String] = [], interruptions: Int, _ random: inout SeededGenerator
  ) throws {
    try world.finishPrepared(&random)
    let plan = try command(["recover", "--dry-run"] + wish)
    if plan.status != 0 || !plan.output.contains("in doubt") {
      fault("recover --dry-run: \(plan.status) \(plan.output)\(plan.errors)")
    }
    let status = try job("recover", wish, world.configured, duties, interruptions, &random)
    if status != 0 { fault("recover ended with \(status)") }
    let again = try command(["recover"])
    if again.status != 0 || !again.output.contains("nothing is in doubt") {
      fault("recover, once more: \(again.status) \(again.output)\(again.errors)")
    }
    for outbox in world.configured { world.duties[outbox.name] = "stream" }
    halts = []
  }

  /// Runs a job to its end, with interruptions, and enters what it owed.
  /// - Returns: the exit code of the last process.
  private func job(
    _ name: String, _ words: [String], _ outboxes: [CampaignOutbox], _ duties: [String], _ interruptions: Int,
    _ random: inout SeededGenerator, file: String? = nil, range: (Int, Int)? = nil
  ) throws -> Int32 {
    let isRecovery = name == "recover"
    let acceptsAll = words.contains("--accept-duplicates")
    var read = CampaignRead(command: name, began: 0, ended: 0, orders: [:], rows: [:], doubtful: 0)
    var isResume = false
    var left = interruptions
    var status: Int32 = 0
    while true {
      let tables = world.outboxes.filter { now in outboxes.contains { $0.name == now.name } }
        .flatMap { [$0.name] + (isRecovery ? $0.former.filter(seen.contains) : []) }
      // A place in the stream is not made before they end.
      if isRecovery || acceptsAll || !hasSlot || hasJoined || hadGap { try world.finishPrepared(&random) }
      if !isResume { read.rows = try world.rows(of: tables) }
      let isInterrupted = left > 0
      let rate = isInterrupted ? Int.random(in: 10...60, using: &random) : 1_000_000
      let arguments =
        [name] + (isResume ? ["--resume"] + (file.map { ["--to-file", $0] } ?? []) : words) + [
          "--json", "--rate", "\(rate)",
        ]
      world.tell("outboxd \(arguments.joined(separator: " "))")
      read.began = Self.now()
      let process = try ChildProcess(
        [try OutboxdProcess.binary(), name, "--config", path] + arguments.dropFirst(),
        environment: environment)
      var sent: Int32 = 0
      if isInterrupted { sent = try interrupt(process, isRecovery: isRecovery, &random) }
      status = try process.wait(seconds: 90)
      read.ended = Self.now()
      world.tell("  ended with \(status)")
      note(process, &read, status: status, isBounded: name == "backfill" && !acceptsAll)
      // A job that has connected again counts what it read since.
      if sent == -1, read.doubtful != 0 { read.doubtful = nil }
      reads.append(read)
      if !hasSlot {
        hasSlot = try server.sql("SELECT 1 FROM pg_replication_slots WHERE slot_name = '\(slot)'") != ""
        if hasSlot { for outbox in world.configured { world.duties[outbox.name] = "stream" } }
      }
      if status == 0 {
        try complete(name, read, duties, tables, process, file: file, range: range)
        return 0
      }
      // It had not begun.
      let isVoid = isResume && status == 2 && process.errors.contains("there is no interrupted")
      // A recovery that was about to end goes by the signal itself.
      let isExpected =
        isVoid || (sent != 0 && [130, 75, -SIGKILL, 1].contains(status)) || (isRecovery && status == -sent)
      guard isExpected else {
        world.tell(String(process.errors.suffix(1500)))
        return status
      }
      if status == 1 || status == 75, sent != -1 {
        fault("\(name) ended with \(status): \(process.errors.suffix(1500))")
      }
      left -= 1
      if left < -3 { throw HarnessError("\(name) does not come to its end") }
      try awaitEnd()
      // What a row's header tells of its transaction is another thing afterwards.
      if random.chance(40) { try world.undo(&random, of: outboxes) }
      for _ in 0..<Int.random(in: 0...3, using: &random) { try quiet(&random) }
      if let file, isVoid { try? FileManager.default.removeItem(atPath: file) }
      isResume = !isRecovery && !isVoid
    }
  }

  /// - Returns: the signal, -1 for a restart of Postgres, 0 where the job had ended.
  private func interrupt(
    _ process: ChildProcess, isRecovery: Bool, _ random: inout SeededGenerator
  ) throws -> Int32 {
    let goal = Int.random(in: 0...40, using: &random)
    let kind = random.pick([SIGINT, SIGKILL, SIGKILL, -1])
    try eventually("\(goal) events are sent: \(process.errors)", within: 60) { () -> Bool? in
      if !process.isRunning { return true }
      guard process.errors.contains("reading a table") else { return nil }
      if isRecovery || goal < 8 {
        // Nothing tells how far it is.
        usleep(UInt32(goal * 20_000))
        return true
      }
      return try server.sql(
        "SELECT coalesce(max(events), 0) >= \(goal) FROM outboxd.job WHERE finished_at IS NULL",
        database: slot) == "t" ? true : nil
    }
    guard process.isRunning else { return 0 }
    world.tell("  \(kind == -1 ? "Postgres stops" : "signal \(kind)") after \(goal) events")
    if kind == -1 { try server.restart(.immediate) } else { process.signal(kind) }
    return kind
  }

  /// Until the server has seen that a killed job is gone.
  private func awaitEnd() throws {
    try eventually("the job's connections are gone", within: 60) {
      try server.sql(
        """
        SELECT count(*) FROM pg_stat_activity WHERE datname = '\(slot)'
        AND application_name IN ('outboxd job', 'outboxd tables', 'outboxd recover')
        """) == "0"
    }
    if relay == nil { try awaitFreeSlot() }
  }

  /// What the log and the report of a process say.
  private func note(_ process: ChildProcess, _ read: inout CampaignRead, status: Int32, isBounded: Bool) {
    for line in process.errors.split(separator: "\n") {
      guard let object = try? JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any],
        let message = object["msg"] as? String
      else { continue }
      if message == "reading a table", let table = object["table"] as? String {
        read.orders[table.replacingOccurrences(of: "public.", with: "")] = object["order"] as? String
      }
      if message.contains("in doubt") { read.doubtful = nil }
    }
    guard isBounded else { return read.doubtful = nil }
    if status == 0, let object = try? JSONSerialization.jsonObject(with: Data(process.output.utf8)),
      let report = object as? [String: Any]
    {
      read.doubtful = report["rows_in_doubt"] as? Int
      world.tell(
        "  certain \(report["rows_certain"] ?? "-"), in doubt \(report["rows_in_doubt"] ?? "-"), left to the stream "
          + "\(report["rows_left_to_stream"] ?? "-"), sent \(report["sent"] ?? "-")")
    }
  }

  /// Rows that were there from the beginning to the end were owed.
  private func complete(
    _ name: String, _ read: CampaignRead, _ duties: [String], _ tables: [String], _ process: ChildProcess,
    file: String?, range: (Int, Int)?
  ) throws {
    let rows = try world.rows(of: tables)
    let ids = rows.filter { read.rows[$0.key] == $0.value }.map { "'\($0.key)'" }.joined(separator: ",")
    let list = "'{\(ids.replacingOccurrences(of: "'", with: ""))}'::uuid[]"
    if let file, let range {
      let owed = try world.sql(
        "SELECT id FROM truth.event WHERE id = ANY(\(list)) AND n > \(range.0) AND n <= \(range.1) AND origin = 'stream'"
      )
      let content = (try? String(contentsOfFile: file, encoding: .utf8)) ?? ""
      let missing = owed.split(separator: "\n").filter { !content.contains($0) }
      if !missing.isEmpty { fault("the replay lacks \(missing.count) rows: \(missing.prefix(5))") }
    } else if !duties.isEmpty {
      let names = duties.map { "'\($0)'" }.joined(separator: ",")
      try world.sql(
        """
        UPDATE truth.event SET duty = 'done' WHERE duty IN (\(names)) AND id = ANY(\(list));
        UPDATE truth.event SET duty = 'outside' WHERE duty = 'gap' AND '\(name)' = 'recover';
        """)
    }
  }
}

// Gaps, made on purpose.
extension Campaign {
  private func gap(_ random: inout SeededGenerator) throws {
    try world.finishPrepared(&random)
    if !halts.isEmpty { try start() }
    if relay == nil, !hasRun || random.chance(50) { try start() }
    if random.chance(50) { try settle() }
    if random.chance(50) { try world.write(&random) }
    if random.chance(30) { try kill() } else { try stop() }
    try world.finishPrepared(&random)
    hadGap = true
    let outbox = random.pick(world.configured)
    let table = "public.\(outbox.name)"
    let kind = Int.random(in: 0..<8, using: &random)
    world.tell("gap \(kind)")
    switch kind {
    case 0:
      try lose("SELECT pg_drop_replication_slot('\(slot)');")
      for outbox in world.configured { world.duties[outbox.name] = "gap" }
      halts = [10, 13]
    case 1:
      try lose("SELECT pg_replication_slot_advance('\(slot)', pg_current_wal_lsn());")
      halts = [13]
    case 2:
      try lose("SELECT pg_drop_replication_slot('\(slot)');")
      world.duties = world.duties.mapValues { $0 == "stream" ? "gap" : $0 }
      if random.chance(70) { try world.write(&random) }
      try world.finishPrepared(&random)
      try world.act("SELECT pg_create_logical_replication_slot('\(slot)', 'pgoutput');")
      for outbox in world.configured { world.duties[outbox.name] = "stream" }
      halts = [13]
    case 3:
      try lose("DROP PUBLICATION outboxd;")
      world.duties = world.duties.mapValues { $0 == "stream" ? "gap" : $0 }
      if random.chance(70) { try world.write(&random) }
      try world.finishPrepared(&random)
      try initialize()
      for outbox in world.configured { world.duties[outbox.name] = "gap" }
      halts = [19]
    case 4, 5:
      try world.act("ALTER PUBLICATION outboxd DROP TABLE \(table);")
      world.duties[outbox.name] = "gap"
      try world.write(&random)
      try world.finishPrepared(&random)
      try world.act("ALTER PUBLICATION outboxd ADD TABLE \(table);")
      world.duties[outbox.name] = "stream"
      halts = [19]
    case 6:
      try world.swap(outbox.name, &random, follow: "")
      try world.act(
        "UPDATE truth.event SET duty = 'outside' WHERE box = '\(outbox.name)' AND duty = 'before';")
      world.duties[outbox.name] = "gap"
      try world.write(&random)
      try world.finishPrepared(&random)
      try world.act("ALTER PUBLICATION outboxd SET TABLE \(tables);")
      world.duties[outbox.name] = "stream"
      halts = [19]
    default:
      try lose("SELECT 'recover --tables';")
      for outbox in world.configured { world.duties[outbox.name] = "gap" }
      return try recover(["gap"], wish: ["--tables"], interruptions: random.pick([0, 1, 2]), &random)
    }
    for _ in 0..<Int.random(in: 0...2, using: &random) { try quiet(&random) }
    if random.chance(40) { return try start() }
    try recover(["gap"], interruptions: random.pick([0, 1, 2]), &random)
  }

  /// What the stream had not sent is nowhere but in the tables then.
  private func lose(_ statement: String) throws {
    try world.act("\(statement) UPDATE truth.event SET duty = 'gap' WHERE duty = 'stream';")
  }
}
