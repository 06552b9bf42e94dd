// Owns: the jobs of a campaign: backfill, replay and recover, interrupted and resumed, and what they have read.
// Must not know: how a table or a row is made, and how the end is judged.
import Foundation
import Glibc
import RelayTesting

extension Campaign {
  func backfill(_ random: inout SeededGenerator, of outbox: CampaignOutbox? = nil) throws {
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

  func replay(_ random: inout SeededGenerator) throws {
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
  func recover(
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
  func job(
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
  func interrupt(
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
  func awaitEnd() throws {
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
  func note(_ process: ChildProcess, _ read: inout CampaignRead, status: Int32, isBounded: Bool) {
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
  func complete(
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
