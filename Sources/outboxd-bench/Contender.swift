// Owns: the programs that drain a slot, how each is started, and how each tells how far it is.
// Must not know: what is measured of them.
import Glibc
import RelayTesting

enum ContentMode: String { case structured, binary }

enum Contender: Equatable {
  /// The source's limit.
  case receiver
  /// The sink's limit.
  case sink(ContentMode)
  case floor(ContentMode)
  case outboxd(ContentMode)
  /// Another outboxd, the one of before a change.
  case reference(ContentMode)
  case debezium

  var name: String {
    switch self {
    case .receiver: "pg_recvlogical"
    case .sink(let mode): "librdkafka alone, \(mode)"
    case .floor(let mode): "C floor, \(mode)"
    case .outboxd(let mode): "outboxd, \(mode)"
    case .reference(let mode): "reference, \(mode)"
    case .debezium: "Debezium"
    }
  }

  var readsSlot: Bool { if case .sink = self { false } else { true } }
  var publishes: Bool { self != .receiver }
  /// The floor that it is compared with.
  var yardstick: Contender? { if case .outboxd(let mode) = self { .floor(mode) } else { nil } }
  var isReference: Bool { if case .reference = self { true } else { false } }
  /// What it is compared with to see what a change costs.
  var reference: Contender? { if case .outboxd(let mode) = self { .reference(mode) } else { nil } }
}

/// What a contender is to drain.
struct Assignment {
  let servers: Servers
  let backlog: Backlog
  let slot: String
  /// Every topic begins with it.
  let prefix: String
}

/// A started contender.
protocol Drainer: AnyObject {
  var processID: pid_t { get }
  /// True where the question how far it is costs it nothing.
  var isAskedForFree: Bool { get }
  /// Rows acknowledged so far.
  func delivered() throws -> Int
  /// Bytes of the stream, where it counts them.
  func streamBytes() throws -> Double?
  func stop() throws
}

extension Contender {
  func start(_ assignment: Assignment) throws -> any Drainer {
    switch self {
    case .receiver: try Receiver(assignment)
    case .sink(let mode): try FloorProgram(assignment, "sink", mode)
    case .floor(let mode): try FloorProgram(assignment, "relay", mode)
    case .outboxd(let mode): try OutboxdRelay(assignment, mode)
    case .reference(let mode): try OutboxdRelay(assignment, mode, binary: assignment.servers.reference)
    case .debezium:
      try DebeziumRelay(
        assignment.servers, tables: assignment.backlog.tables, slot: assignment.slot,
        prefix: assignment.prefix)
    }
  }
}

/// Ends when it has everything.
private final class Receiver: Drainer {
  private let process: ChildProcess
  private let rows: Int

  init(_ assignment: Assignment) throws {
    rows = assignment.backlog.workload.rows
    process = try ChildProcess([
      "pg_recvlogical", "-d", assignment.servers.conninfo(), "--slot", assignment.slot, "--start", "-f",
      "/dev/null", "--no-loop", "-o", "proto_version=1", "-o", "publication_names=\(Backlog.publication)",
      "-o",
      "binary=true", "-o", "messages=false", "--endpos", assignment.backlog.end,
    ])
  }

  var processID: pid_t { process.processID }
  var isAskedForFree: Bool { true }

  func delivered() throws -> Int {
    guard ProcessUsage.hasEnded(processID) else { return 0 }
    return rows
  }

  func streamBytes() -> Double? { nil }

  func stop() throws {
    let status = try process.wait(seconds: 10)
    guard status == 0 else { throw HarnessError("pg_recvlogical ended with \(status): \(process.errors)") }
  }
}

/// Says on standard output when everything is delivered, and lives on until it is told to end.
final class FloorProgram: Drainer {
  private let process: ChildProcess
  private var answer: [Substring] = []

  init(_ assignment: Assignment, _ command: String, _ mode: ContentMode, rows: Int? = nil) throws {
    let servers = assignment.servers
    var words = [
      servers.floor, command, "--mode", mode.rawValue, "--rows",
      "\(rows ?? assignment.backlog.workload.rows)",
      "--topic-prefix", assignment.prefix, "--conninfo", servers.conninfo(), "--slot", assignment.slot,
      "--publication", Backlog.publication,
    ]
    if command == "sink" {
      let samples = TestFolder.make("samples") + "/rows"
      try assignment.backlog.writeSamples(to: samples, psql: servers.postgres.adminConninfo())
      words += ["--samples", samples]
    }
    words += ProducerSettings.arguments(bootstrap: servers.kafka.bootstrap)
    process = try ChildProcess(words, environment: ProducerSettings.environment)
    // Reading its samples is no part of the sink's work.
    if command == "sink" { try waitForLine("started") }
  }

  private func waitForLine(_ line: String) throws {
    try eventually("\(line): \(process.errors)", within: 120, isTrue: { process.output.contains(line) })
  }

  var processID: pid_t { process.processID }
  var isAskedForFree: Bool { true }

  func delivered() throws -> Int {
    let words = process.output.split(whereSeparator: { $0 == " " || $0 == "\n" })
    if let position = words.firstIndex(of: "delivered"), words.count > position + 3 {
      answer = Array(words[position...])
      return Int(answer[1]) ?? 0
    }
    if ProcessUsage.hasEnded(processID) { throw HarnessError("the C program ended: \(process.errors)") }
    return 0
  }

  func streamBytes() -> Double? {
    guard answer.count > 3, let bytes = Double(answer[3]), bytes > 0 else { return nil }
    return bytes
  }

  func stop() throws {
    process.signal(SIGTERM)
    try process.wait(seconds: 30)
  }
}

/// The binary, as an operator starts it; without the journal, which would refuse a copied slot.
final class OutboxdRelay: Drainer {
  private let relay: OutboxdProcess

  /// - Parameter binary: nil: the one that is measured.
  init(_ assignment: Assignment, _ mode: ContentMode, binary: String? = nil) throws {
    relay = try OutboxdProcess(
      Self.configuration(
        assignment.servers, tables: assignment.backlog.tables, slot: assignment.slot,
        prefix: assignment.prefix, mode: mode, journal: false), binary: binary)
  }

  static func configuration(
    _ servers: Servers, tables: [String], slot: String, prefix: String, mode: ContentMode, journal: Bool
  ) -> RelayConfiguration {
    let outboxes = tables.map {
      "- table: \($0)\n  topic: \"\(prefix){aggregatetype}\"\n  content_mode: \(mode.rawValue)\n"
    }
    var configuration = RelayConfiguration(
      conninfo: servers.conninfo(user: journal ? "outboxd" : "postgres"), brokers: servers.kafka.bootstrap,
      outboxes: outboxes.joined())
    configuration.postgres = ["slot: \(slot)", "publication: \(Backlog.publication)"]
    if !journal { configuration.postgres.append("journal: off") }
    return configuration
  }

  var processID: pid_t { relay.process.processID }
  /// A question costs it some tenths of a millisecond.
  var isAskedForFree: Bool { false }

  func delivered() throws -> Int {
    if ProcessUsage.hasEnded(processID) { throw HarnessError("outboxd ended\n\(relay.tail)") }
    return Int(try relay.metric("outboxd_delivery_latency_seconds_count") ?? 0)
  }

  func streamBytes() throws -> Double? { try relay.metric("outboxd_received_bytes_total") }

  func stop() throws {
    let status = try relay.terminate()
    guard status == 0 else { throw HarnessError("outboxd ended with \(status)\n\(relay.tail)") }
  }
}
