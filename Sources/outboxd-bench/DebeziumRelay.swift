// Owns: Debezium as a contender: its start, progress and stop.
// Must not know: what is measured of it.
import Glibc
import RelayTesting

/// Kafka Connect with Debezium's outbox event router, by the program of `../shared/debezium`.
final class DebeziumRelay: Drainer {
  /// Nil where it is not available.
  static let program: String? = {
    let named = getenv("OUTBOXD_BENCH_DEBEZIUM").map { String(cString: $0) }
    let candidates = [
      named ?? "", "\(TestTools.repository)/../shared/debezium/start", "/work/shared/debezium/start",
    ]
    return candidates.first { !$0.isEmpty && access($0, X_OK) == 0 }
  }()

  private let folder = TestFolder.make("debezium")
  private let servers: Servers
  private let topics: [String]
  private let starter: ChildProcess
  let processID: pid_t

  init(_ servers: Servers, tables: [String], slot: String, prefix: String) throws {
    guard let program = Self.program else { throw HarnessError("no Debezium") }
    self.servers = servers
    topics = [prefix + "order"]
    let extra = folder + "/extra.properties"
    try ChildProcess.check(
      ["tee", extra],
      input: .text("transforms.outbox.route.topic.replacement=\(prefix)${routedByValue}\n"))
    let process = try ChildProcess(
      [program],
      environment: [
        "PGPORT": "\(servers.postgres.port)", "BOOTSTRAP": servers.kafka.bootstrap, "WORKDIR": folder,
        "SLOT": slot, "PUBLICATION": Backlog.publication,
        "TABLE": tables.joined(separator: ","), "EXTRA_CONNECTOR": extra, "WAIT": "0",
      ])
    starter = process
    try process.wait(seconds: 30)
    // Its JVM stays in the starter's process group.
    Reaper.shared.tell("pid \(process.processID)")
    guard
      let processID = ProcessUsage.content(folder + "/connect.pid").flatMap({
        pid_t($0.prefix { $0.isNumber })
      })
    else { throw HarnessError("Debezium did not start: \(process.output)\(process.errors)") }
    self.processID = processID
  }

  /// The broker is asked.
  var isAskedForFree: Bool { false }

  func delivered() throws -> Int {
    guard kill(processID, 0) == 0 else {
      throw HarnessError(
        "Debezium ended: \(ProcessUsage.content(folder + "/connect.log")?.suffix(3000) ?? "")")
    }
    return try servers.topics.count(topics)
  }

  func streamBytes() -> Double? { nil }

  func stop() throws {
    let stop = Self.program.map { String($0.dropLast("start".utf8.count)) + "stop" } ?? ""
    try ChildProcess.check([stop, folder])
    Reaper.shared.tell("gone \(starter.processID)")
  }
}
