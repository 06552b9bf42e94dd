// Owns: what `status` makes of the database's facts and of the outboxd on this machine.
import RelayCore
import Synchronization
import Testing

@testable import PostgresSource
@testable import outboxd

private let mapping = OutboxMapping(schema: "public", table: "outbox")

private func facts() -> ServerFacts {
  var slot = SlotFacts(database: "shop", confirmedFlushLSN: LSN(90))
  slot.isActive = true
  slot.activePID = 7
  var table = TableFacts(schema: "public", name: "outbox")
  table.columns = ["id", "aggregatetype", "aggregateid", "type", "payload"].map { name in
    TableFacts.Column(name: name, type: "text", typeOID: 25, isNullable: false)
  }
  return ServerFacts(
    serverVersion: 150_000, systemIdentifier: 1, timeline: 1, walEnd: LSN(100), database: "shop", slot: slot,
    publication: PublicationFacts(tables: [.init(schema: "public", name: "outbox")]), tables: [table])
}

/// What a running outboxd answers, read back.
private func relay(
  slot: String = "outboxd", database: String? = "shop", role: RelayMetrics.Role = .active,
  change: (RelayMetrics) -> Void = { _ in }
) -> LocalRelay? {
  let metrics = RelayMetrics()
  metrics.role.store(role.rawValue, ordering: .relaxed)
  metrics.postgresConnected.store(true, ordering: .relaxed)
  metrics.kafkaBrokersUp.store(3, ordering: .relaxed)
  change(metrics)
  let info = AdminInfo(slot: slot, database: database)
  return LocalRelay(
    status: AdminPages(metrics: metrics, info: info).answer(method: "GET", path: "/status").body)
}

private func status(_ relay: LocalRelay, _ facts: ServerFacts = facts()) -> RelayStatus {
  RelayStatus(facts: facts, settings: PostgresSettings(), mappings: [mapping], local: relay)
}

@Suite struct StatusTests {
  @Test("A relay that is ready is healthy, and Kafka is told")
  func healthy() throws {
    let status = status(try #require(relay()))
    #expect(status.isHealthy, "\(status.text)")
    #expect(status.text.contains("kafka       connected, brokers: 3\n"))
    #expect(!status.text.contains("waits for"))
  }

  @Test("A relay that holds events is not healthy, and says what it waits for")
  func held() throws {
    let held = relay {
      $0.hold = "topic \"t\" does not exist"
      $0.fault = RelayError(.sinkDenied, "Kafka refused", code: "X", remedy: "repair it")
      $0.kafkaBrokersUp.store(0, ordering: .relaxed)
    }
    let status = status(try #require(held))
    #expect(!status.isHealthy)
    #expect(status.text.contains("kafka       not connected\n"))
    #expect(status.text.contains("waits for   topic \"t\" does not exist\n"))
    #expect(status.text.contains("not ready   Kafka refused [X] Remedy: repair it\n"))
    let json = try #require(JSONReader.value(of: status.json.pretty))
    #expect(json["healthy"] == .boolean(false))
    #expect(json["here"]?["hold"]?.string == "topic \"t\" does not exist")
    #expect(json["here"]?["fault"]?["remedy"]?.string == "repair it")
  }

  @Test("An outboxd that relays another slot or database is named and not believed")
  func foreign() throws {
    for other in [relay(slot: "orders") { $0.hold = "x" }, relay(database: "hr") { $0.hold = "x" }] {
      let status = status(try #require(other))
      #expect(status.isHealthy)
      #expect(status.text.contains("relays another slot"))
      #expect(!status.text.contains("waits for"))
      #expect(status.json.pretty.contains("\"role_here\": null"))
    }
    #expect(LocalRelay(status: "{\"status\": \"ok\"}") == nil)
  }

  @Test("A standby here is in order while another outboxd streams")
  func standby() throws { #expect(status(try #require(relay(role: .standby))).isHealthy) }

  @Test("Anchor, replay window, the nearest limit and unfinished jobs are told, for people and for machines")
  func replay() throws {
    var slot = SlotFacts(database: "shop", confirmedFlushLSN: LSN(50))
    slot.restartLSN = LSN(40)
    slot.walStatus = "reserved"
    var anchor = SlotOverview(name: "outboxd_anchor", role: .anchor, facts: slot, retainedBytes: 3 << 20)
    anchor.facts.safeWALSize = 720 << 20
    var status = status(try #require(relay()))
    #expect(status.text.contains("anchor      none: replay.window is off\n"))
    #expect(status.text.contains("limit       none: the slot does not exist\n"))
    status.replay = ReplayStatus(main: SlotOverview(name: "outboxd", role: .main, facts: slot))
    #expect(status.text.contains("limit       none: max_slot_wal_keep_size is not set"))
    var lost = slot
    lost.walStatus = "lost"
    status.replay = ReplayStatus(main: SlotOverview(name: "outboxd", role: .main, facts: lost))
    #expect(status.text.contains("limit       slot outboxd is lost\n"))
    status.replay = ReplayStatus(
      main: SlotOverview(name: "outboxd", role: .main, facts: slot), anchor: anchor,
      fromWAL: .init(lsn: LSN(50), time: 0), fromTable: .init(lsn: LSN(16)), walRate: 100 << 10,
      jobs: [UnfinishedJob(id: 3, command: "replay", events: 7, startedAt: 0, updatedAt: 1_000_000)])
    #expect(
      status.text.contains("from the WAL: 0/32 (2000-01-01T00:00:00Z) on; from the tables: 0/10 on\n"))
    #expect(
      status.text.contains(
        "limit       2 h 2 min at this rate, 720.0 MiB left until slot outboxd_anchor is in danger\n"))
    #expect(status.text.contains("wal rate    100.0 KiB a second\n"))
    #expect(status.text.contains("outboxd replay --resume --job 3\n"))
    #expect(status.text.contains("outboxd slot drop-anchor drops it"))
    let json = try #require(JSONReader.value(of: status.json.pretty))["replay"]
    #expect(json?["anchor"]?["retained_bytes"] == .integer(3 << 20))
    #expect(json?["from_wal"]?["time"]?.string == "2000-01-01T00:00:00Z")
    #expect(json?["anchor_seconds_left"] == .integer(7372))
    #expect(json?["slot_seconds_left"] == .null)
  }

  @Test("A missing publication has a remedy that names the tables")
  func publication() throws {
    var facts = facts()
    facts.publication = nil
    let status = status(try #require(relay()), facts)
    #expect(!status.isHealthy)
    #expect(
      status.text.contains("FOR TABLE \"public\".\"outbox\"")
        || status.text.contains("FOR TABLE public.outbox"))
  }

  @Test("A topic of a row that Kafka cannot have is told in the relay's words")
  func topics() throws {
    #expect(CheckCommand.invalidTopic("outbox.event.order", mapping) == nil)
    let finding = try #require(CheckCommand.invalidTopic("outbox.event.große Order", mapping))
    #expect(
      finding.level == .error
        && finding.message.contains("is not a topic name: 1 to 249 of A-Z a-z 0-9 . _ -"))
    #expect(finding.remedy != nil)
  }

  @Test("JSON is read as it was written, and anything else is nil")
  func reading() {
    let value = JSONValue.object([
      .init("a", .array([.integer(-1), .unsigned(.max), .number(1.5), .null, .boolean(false)])),
      .init("b \"\\\u{1}\n", .text("ü😀\u{7F}")), .init("c", .object([])),
    ])
    #expect(JSONReader.value(of: value.pretty) == value)
    #expect(JSONReader.value(of: value.compact) == value)
    for text in [
      "", "{", "{\"a\"}", "[1,]", "1 2", "nul", "\"\\x\"", "\"", String(repeating: "[", count: 100_000),
    ] {
      #expect(JSONReader.value(of: text) == nil, "\(text.prefix(20))")
    }
  }
}
