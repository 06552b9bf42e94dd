// Owns: outboxd replay beside a running relay: the same bytes in the same order, filters, interruptions, bad input.
import Foundation
import Glibc
import RelayTesting
import Testing

/// What Tests/oracle/replayed.py finds.
private struct Comparison: Decodable, CustomStringConvertible {
  let ok: Bool
  let first: Int
  let replayed: Int
  let marks: [String: Int]
  let faults: [String]
  var description: String { "first \(first), replayed \(replayed), marks \(marks), \(faults)" }
}

extension Scene {
  /// A relay that keeps WAL to replay from, once it does.
  fileprivate func startWithWindow() throws -> OutboxdProcess {
    let relay = try OutboxdProcess(configuration, environment: ["OUTBOXD_REPLAY_WINDOW": "1h"])
    try relay.waitUntilReady()
    try eventually("the anchor is there\n\(relay.tail)", within: 60) {
      try server.sql("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'outboxd_anchor'") == "1"
    }
    return relay
  }

  /// The end of the WAL.
  fileprivate func place() throws -> String { try server.sql("SELECT pg_current_wal_insert_lsn()") }

  /// Waits until everything that committed before `place` is published.
  fileprivate func publish(_ place: String, _ relay: OutboxdProcess) throws {
    try eventually("\(place) is published\n\(relay.tail)", within: 60) {
      // An idle slot follows what is written now.
      try server.sql("SELECT pg_logical_emit_message(false, 'test', 'x')", database: "shop")
      return try server.sql(
        "SELECT confirmed_flush_lsn > '\(place)' FROM pg_replication_slots WHERE slot_name = 'outboxd'")
        == "t"
    }
  }

  /// Writes events until the journal knows of a snapshot: from there on the tables can be read by it.
  fileprivate func awaitSnapshot(_ relay: OutboxdProcess) throws {
    try eventually("the history has a snapshot\n\(relay.tail)", within: 60) {
      try server.sql("SELECT workload.emit('orders', ARRAY[1], 1)", database: "shop")
      return try count("SELECT count(*) FROM outboxd.checkpoint_history WHERE snapshot IS NOT NULL") > 0
    }
  }

  fileprivate func replayCommand(_ words: [String]) throws -> [String] {
    ["replay", "--config", try configuration.write()] + words
  }

  fileprivate func replay(_ words: String..., status: Int32 = 0) throws -> ChildProcess.Result {
    let result = try OutboxdProcess.command(try replayCommand(words), seconds: 120)
    #expect(result.status == status, "\(words): \(result.errors)\(result.output)")
    return result
  }

  /// The JSON that it prints.
  fileprivate func replayJSON(_ words: String...) throws -> [String: Any] {
    let result = try OutboxdProcess.command(try replayCommand(words + ["--json"]), seconds: 120)
    #expect(result.status == 0, "\(words): \(result.errors)\(result.output)")
    return try #require(JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [String: Any])
  }

  /// First deliveries against replays, by an independent reader.
  fileprivate func compare(from: String, through: String, _ more: String...) throws -> Comparison {
    func digits(_ lsn: String) -> String {
      lsn.split(separator: "/").map { String(repeating: "0", count: 8 - $0.count) + $0.lowercased() }.joined()
    }
    let command =
      [
        TestTools.python, "-B", Workload.folder + "/replayed.py", "--brokers", kafka.bootstrap, "--prefix",
        workload.prefix + ".", "--from", digits(from), "--through", digits(through),
      ] + more
    let result = try ChildProcess.run(command, seconds: 120)
    guard let comparison = try? JSONDecoder().decode(Comparison.self, from: Data(result.output.utf8)) else {
      throw HarnessError("replayed.py ended with \(result.status): \(result.errors)\(result.output)")
    }
    return comparison
  }

  fileprivate func count(_ query: String) throws -> Int { try server.integer(query, database: "shop") }

  /// Starts a replay in the background and waits until `events` of it are stored as acknowledged.
  fileprivate func startReplay(_ words: [String], untilStored events: Int) throws -> ChildProcess {
    let process = try ChildProcess([try OutboxdProcess.binary()] + replayCommand(words))
    try eventually("\(events) events are stored\n\(process.errors)", within: 60) {
      if let status = process.poll() { throw HarnessError("it ended with \(status): \(process.errors)") }
      return try server.sql(
        "SELECT coalesce(max(events), 0) >= \(events) FROM outboxd.job WHERE finished_at IS NULL",
        database: "shop") == "t"
    }
    return process
  }
}

private func ids(_ lines: String) throws -> [String] {
  try lines.split(separator: "\n").map { line in
    let object = try #require(
      JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any], "\(line)")
    let headers = try #require(object["headers"] as? [[String: String]])
    #expect(headers.last == ["name": "outboxd-replay", "value": "wal"])
    if let id = headers.first(where: { $0["name"] == "ce_id" })?["value"] { return id }
    let value = try #require(object["value"] as? String)
    let envelope = try JSONSerialization.jsonObject(with: Data(value.utf8)) as? [String: Any]
    return try #require(envelope?["id"] as? String)
  }
}

extension Integration {
  @Suite(.serialized) struct ReplayTests {
    @Test(
      .enabled(if: KafkaCluster.isReal, "the embedded broker keeps 5 MB of a partition"), arguments: [15, 18])
    func `a closed range is replayed under load, byte for byte and in the same order`(version: Int) throws {
      guard PostgresServer.versions.contains(version) else { return }
      var random = SeededGenerator("ReplayTests")
      let scene = try Scene(version: version)
      let relay = try scene.startWithWindow()
      let writers = try scene.workload.startLoad(
        pause: 0.01, seed: UInt32(truncatingIfNeeded: random.next()))
      func deliver(_ more: Double) throws {
        let before = try relay.metric("outboxd_events_delivered_total") ?? 0
        try eventually("\(more) more are delivered\n\(relay.tail)", within: 60) {
          try relay.metric("outboxd_events_delivered_total") ?? 0 >= before + more
        }
      }
      try deliver(500)
      let from = try scene.place()
      try deliver(3000)
      let through = try scene.place()
      try scene.publish(through, relay)
      let result = try scene.replayJSON("--from", from, "--to", through)
      try deliver(500)
      try scene.workload.stopLoad(writers)
      try scene.workload.settle(relay)
      let comparison = try scene.compare(from: from, through: through)
      #expect(comparison.ok, "\(comparison)")
      #expect(comparison.first > 500)
      #expect(comparison.marks == ["wal": comparison.first])
      #expect(result["sent"] as? Int == comparison.first && result["read"] as? Int == comparison.first)
      #expect(result["complete"] as? Bool == true && result["source"] as? String == "wal")
      // The relay and its slot have noticed nothing.
      #expect(try relay.metric("outboxd_reconnects_total") ?? 0 == 0)
      #expect(try relay.terminate() == 0)
      #expect(
        try scene.server.sql("SELECT string_agg(slot_name, ',' ORDER BY slot_name) FROM pg_replication_slots")
          == "outboxd,outboxd_anchor")
    }

    @Test func `filters, targets and counts of one range agree with the tables`() throws {
      let scene = try Scene()
      let relay = try scene.startWithWindow()
      let from = try scene.place()
      try scene.workload.run(transactions: 40, size: 8, seed: 7, keys: 20)
      let through = try scene.place()
      try scene.publish(through, relay)
      let total = try scene.count("SELECT count(*) FROM truth.event")
      let range = ["--from", from, "--to", through]
      func counted(_ words: String...) throws -> Int? {
        let result = try OutboxdProcess.command(
          try scene.replayCommand(range + ["--dry-run", "--json"] + words), seconds: 60)
        let json = try JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [String: Any]
        #expect(json?["sent"] as? Int == 0 && json?["read"] as? Int == total, "\(result.errors)")
        return json?["selected"] as? Int
      }
      #expect(try counted() == total)
      #expect(
        try counted("--outbox", "payments.outbox_events")
          == scene.count("SELECT count(*) FROM truth.payments"))
      let subject = try scene.server.sql("SELECT subject FROM truth.event LIMIT 1", database: "shop")
      #expect(
        try counted("--aggregate-id", subject)
          == scene.count("SELECT count(*) FROM truth.event WHERE subject = '\(subject)'"))
      let type = try scene.server.sql("SELECT type FROM truth.inventory LIMIT 1", database: "shop")
      #expect(
        try counted("--type", type) == scene.count("SELECT count(*) FROM truth.event WHERE type = '\(type)'"))
      let id = try scene.server.sql("SELECT id FROM truth.orders LIMIT 1", database: "shop")
      #expect(try counted("--id", id) == 1)
      #expect(try counted("--id", id, "--outbox", "payments.outbox_events") == 0)
      #expect(try scene.count("SELECT count(*) FROM outboxd.job WHERE command = 'replay'") == 0)

      let path = TestFolder.make("replay") + "/events.jsonl"
      _ = try scene.replay("--from", from, "--to", through, "--to-file", path)
      let file = try String(contentsOfFile: path, encoding: .utf8)
      let found = try ids(file)
      #expect(found.count == total && Set(found).count == total)
      let piped = try scene.replay("--from", from, "--to", through, "--to-file", "-")
      #expect(piped.output == file)
      let refused = try scene.replay("--from", from, "--to-file", path, status: 2)
      #expect(refused.errors.contains("the file \(path) exists"))

      let topic = "\(scene.workload.prefix).repair"
      let result = try scene.replayJSON("--from", from, "--to", through, "--topic", topic)
      #expect(result["topics"] as? [String: Int] == [topic: total])
      let comparison = try scene.compare(from: from, through: through, "--topic", topic)
      #expect(comparison.ok && comparison.replayed == total, "\(comparison)")
      #expect(try relay.terminate() == 0)
    }

    @Test func `from the tables comes all of a range, without sequence`() throws {
      let scene = try Scene()
      let relay = try scene.startWithWindow()
      try scene.workload.run(transactions: 20, size: 5, seed: 3)
      try scene.awaitSnapshot(relay)
      let from = try scene.place()
      try scene.publish(from, relay)
      try scene.workload.run(transactions: 30, size: 5, seed: 4)
      let through = try scene.place()
      try scene.publish(through, relay)
      let result = try scene.replayJSON("--from", from, "--to", through, "--source", "table")
      #expect(result["source"] as? String == "table" && (result["notes"] as? [String])?.isEmpty == false)
      let comparison = try scene.compare(from: from, through: through, "--order", "any")
      #expect(comparison.ok && comparison.first > 400, "\(comparison)")
      #expect(comparison.marks == ["table": comparison.replayed])
      #expect(try relay.terminate() == 0)
    }

    @Test(arguments: [PostgresServer.versions.first, PostgresServer.versions.last].compactMap(\.self))
    func `a range with a gap that was recovered is replayed from the tables, and never in part from the WAL`(
      version: Int
    ) throws {
      let scene = try Scene(version: version)
      let relay = try scene.startWithWindow()
      try scene.awaitSnapshot(relay)
      let before = try scene.count("SELECT count(*) FROM public.outbox")
      let from = try scene.place()
      try scene.workload.run(transactions: 5, size: 5, seed: 3)
      try scene.publish(try scene.place(), relay)
      #expect(try relay.terminate() == 0)
      try scene.server.sql("ALTER PUBLICATION outboxd DROP TABLE public.outbox", database: "shop")
      try scene.workload.run(transactions: 5, size: 5, seed: 4)
      try scene.server.sql("ALTER PUBLICATION outboxd ADD TABLE public.outbox", database: "shop")
      let path = try scene.configuration.write()
      let recovered = try OutboxdProcess.command(["recover", "--config", path])
      #expect(recovered.status == 0, "\(recovered.errors)")
      #expect(recovered.output.contains("rows of public.outbox are in doubt"), "\(recovered.output)")
      let next = try scene.startWithWindow()
      let behind = try scene.place()
      try scene.workload.run(transactions: 5, size: 5, seed: 5)
      try scene.publish(try scene.place(), next)
      let refused = try scene.replay("--from", from, "--source", "wal", status: 26)
      #expect(refused.errors.contains("which the publication did not carry"), "\(refused.errors)")
      let lowest = try #require(
        refused.errors.firstMatch(of: /The lowest that can be served is --from ([0-9A-F\/]+)/))
      let whole = try scene.replayJSON("--from", from, "--outbox", "public.outbox", "--dry-run")
      #expect(whole["source"] as? String == "table")
      #expect(
        try whole["selected"] as? Int ?? 0 >= scene.count("SELECT count(*) FROM public.outbox") - before)
      for place in [String(lowest.1), behind] {
        #expect(try scene.replayJSON("--from", place, "--dry-run")["source"] as? String == "wal")
      }
      #expect(try next.terminate() == 0)
    }

    @Test func `the rate holds`() throws {
      let scene = try Scene()
      let relay = try scene.startWithWindow()
      let from = try scene.place()
      try scene.server.sql(
        "SELECT workload.emit('orders', array_agg(i), 900) FROM generate_series(1, 50) i", database: "shop")
      try scene.publish(try scene.place(), relay)
      let path = TestFolder.make("replay") + "/events.jsonl"
      let result = try scene.replayJSON("--from", from, "--rate", "300", "--to-file", path)
      #expect(result["sent"] as? Int == 900)
      let seconds = try #require(result["seconds"] as? Double)
      #expect(seconds > 2.8 && seconds < 6, "\(seconds)")
      #expect(try relay.terminate() == 0)
    }

    @Test func `after Ctrl-C it says how to go on, and resume does, to the end`() throws {
      let scene = try Scene()
      let relay = try scene.startWithWindow()
      let from = try scene.place()
      try scene.workload.run(transactions: 100, size: 5, seed: 11)
      let through = try scene.place()
      try scene.publish(through, relay)
      let process = try scene.startReplay(
        ["--from", from, "--to", through, "--rate", "200"], untilStored: 200)
      process.signal(SIGINT)
      #expect(try process.wait(seconds: 30) == 130)
      #expect(process.errors.contains("interrupted after "))
      let job = try scene.count("SELECT id FROM outboxd.job WHERE command = 'replay'")
      #expect(process.errors.contains("outboxd replay --resume --job \(job) --config "), "\(process.errors)")
      // Another replay says that this one is not at its end.
      let other = try scene.replay("--from", from, "--to", through, "--id", "nothing")
      #expect(other.errors.contains("an earlier replay was interrupted"), "\(other.errors)")
      let result = try scene.replayJSON("--resume", "--rate", "100000")
      #expect(result["resumed"] as? Bool == true && result["complete"] as? Bool == true)
      #expect(result["job"] as? Int == job)
      let comparison = try scene.compare(from: from, through: through)
      #expect(comparison.ok, "\(comparison)")
      #expect(
        (result["sent"] as? Int ?? 0) + (result["sent_before"] as? Int ?? 0) == comparison.first)
      #expect(try scene.count("SELECT count(*) FROM outboxd.job WHERE finished_at IS NULL") == 0)
      let none = try scene.replay("--resume", status: 2)
      #expect(none.errors.contains("there is no interrupted replay of slot \"outboxd\""), "\(none.errors)")
      let done = try scene.replay("--resume", "--job", "\(job)", status: 2)
      #expect(done.errors.contains("replay \(job) is finished"), "\(done.errors)")
      #expect(try relay.terminate() == 0)
    }

    @Test func `a transaction that Ctrl-C cuts comes again as a whole, which is said`() throws {
      let scene = try Scene()
      let relay = try scene.startWithWindow()
      let from = try scene.place()
      try scene.workload.run(writers: 1, transactions: 20, size: 5, seed: 13)
      let whole = try scene.count("SELECT count(*) FROM truth.event")
      try scene.server.sql(
        "SELECT workload.emit('orders', array_agg(i), 2000) FROM generate_series(1, 9) i", database: "shop")
      let through = try scene.place()
      try scene.publish(through, relay)
      let process = try scene.startReplay(
        ["--from", from, "--to", through, "--rate", "200"], untilStored: whole)
      process.signal(SIGINT)
      #expect(try process.wait(seconds: 30) == 130)
      #expect(
        process.errors.contains(" events will be sent again: their transaction was not sent as a whole"))
      let result = try scene.replayJSON("--resume", "--rate", "100000")
      #expect(result["sent_before"] as? Int == whole && result["sent"] as? Int == 2000, "\(result)")
      let comparison = try scene.compare(from: from, through: through, "--repeats")
      #expect(comparison.ok, "\(comparison)")
      #expect(try relay.terminate() == 0)
    }

    @Test(arguments: ["kafka", "file", "table"])
    func `after kill -9 resume completes it`(target: String) throws {
      let scene = try Scene()
      let relay = try scene.startWithWindow()
      if target == "table" { try scene.awaitSnapshot(relay) }
      let from = try scene.place()
      try scene.workload.run(transactions: 100, size: 5, seed: 12)
      let through = try scene.place()
      try scene.publish(through, relay)
      let path = TestFolder.make("replay") + "/events.jsonl"
      var words = ["--from", from, "--to", through, "--rate", "400"]
      if target == "file" { words += ["--to-file", path] }
      if target == "table" { words += ["--source", "table"] }
      let process = try scene.startReplay(words, untilStored: 300)
      process.kill()
      // The server lets the job go once it has noticed.
      try eventually("the job is nobody's", within: 20) {
        try scene.server.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", database: "shop")
          == "0"
      }
      let result =
        target == "file"
        ? try scene.replayJSON("--resume", "--to-file", path, "--rate", "100000")
        : try scene.replayJSON("--resume", "--rate", "100000")
      #expect(result["complete"] as? Bool == true)
      switch target {
      case "file":
        let found = Set(try ids(try String(contentsOfFile: path, encoding: .utf8)))
        #expect(try found.count == scene.count("SELECT count(*) FROM truth.event"))
      case "table":
        let comparison = try scene.compare(from: from, through: through, "--order", "any")
        #expect(comparison.ok, "\(comparison)")
      default:
        let comparison = try scene.compare(from: from, through: through, "--repeats")
        #expect(comparison.ok, "\(comparison)")
      }
      #expect(try relay.terminate() == 0)
    }

    @Test func `bad input gets one clear line, and moves nothing`() throws {
      let scene = try Scene()
      let relay = try scene.startWithWindow()
      let from = try scene.place()
      try scene.workload.run(transactions: 5, size: 2, seed: 1)
      try scene.publish(try scene.place(), relay)
      func fault(_ words: String..., status: Int32 = 2) throws -> String {
        let result = try OutboxdProcess.command(try scene.replayCommand(words))
        #expect(result.status == status, "\(words): \(result.status) \(result.errors)")
        #expect(result.output.isEmpty)
        let lines = result.errors.split(separator: "\n")
        #expect((1...2).contains(lines.count), "\(result.errors)")
        return lines.first.map(String.init) ?? ""
      }
      #expect(try fault("--from", "0/XY").contains("\"0/XY\" is not an LSN"))
      #expect(try fault("--from", "FFFF/0").contains("beyond the end of the WAL"))
      #expect(try fault("--from", from, "--to", "FFFF/0").contains("beyond the end of the WAL"))
      #expect(try fault("--from", "0/20", "--to", "0/10").contains("--to 0/10 is before --from 0/20"))
      #expect(try fault("--from", "2100-01-01T00:00:00Z").contains("is in the future"))
      #expect(try fault("--from", "2026-01-01T00:00:00").contains("for UTC write 2026-01-01T00:00:00Z"))
      #expect(
        try fault("--from", from, "--outbox", "public.outbx").contains("did you mean \"public.outbox\"?"))
      #expect(try fault("--from", from, "--rate", "0").contains("--rate must be a number from 1"))
      #expect(try fault("--from", from, "--topic", "a b").contains("is not a topic name"))
      #expect(try fault("--from", from, "--resume").contains("takes no --from"))
      #expect(try fault("--from", "0/10", "--source", "wal", status: 26).contains("cannot be served"))
      // Without an anchor the WAL is not available; and nothing is forwarded in silence.
      #expect(try relay.terminate() == 0)
      try scene.server.sql("SELECT pg_drop_replication_slot('outboxd_anchor')")
      let line = try fault("--from", from, "--source", "wal", status: 26)
      #expect(line.contains("no WAL is kept for replay"), "\(line)")
      #expect(try scene.count("SELECT count(*) FROM outboxd.job WHERE command = 'replay'") == 0)
    }
  }
}
