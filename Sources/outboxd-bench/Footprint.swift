// Owns: what outboxd costs when nothing happens, and how soon it is there.
// Must not know: throughput.
import Glibc
import RelayTesting

extension Case {
  static let footprint = Case(
    name: "footprint", summary: "binary size, idle memory and CPU, start to first event in a consumer's hands"
  ) { bench, report in
    for turn in 1...bench.options.turns {
      let seconds = bench.options.quick ? 3 : 10
      report.add(try Footprint(bench.servers, idleSeconds: seconds).measure(), to: "outboxd")
      Progress.say("\(report.name) \(turn)/\(bench.options.turns)")
    }
    report.note("idle: connected to both sides, journal on, with nothing to relay")
  }
}

struct Footprint {
  let servers: Servers
  let idleSeconds: Int

  init(_ servers: Servers, idleSeconds: Int) {
    self.servers = servers
    self.idleSeconds = idleSeconds
  }

  func measure() throws -> Figures {
    let setup = try LiveSetup(servers, mode: .binary)
    defer { setup.clear() }
    let probe = try setup.probe("first", [])
    try eventually(
      "the consumer is ready: \(probe.errors)", within: 30, isTrue: { probe.output.contains("ready") })
    try servers.database.rows(
      """
      INSERT INTO bench.outbox (aggregatetype, aggregateid, type, payload)
      VALUES ('order', '1', 'OrderPlaced', '{}')
      """)
    let launched = monotonicSeconds()
    let relay = try OutboxdProcess(setup.configuration)
    let line = try eventually("the first event comes: \(relay.tail)", within: 30) {
      let words = probe.output.split(whereSeparator: { $0 == " " || $0 == "\n" })
      return words.count == 3 ? words[2] : nil
    }
    let arrived = (Double(line) ?? 0) / 1e9

    // The start is not yet idle.
    sleep(2)
    let before = ProcessUsage.cpuSeconds(relay.process.processID) ?? 0
    let began = monotonicSeconds()
    sleep(UInt32(idleSeconds))
    let cpu = (ProcessUsage.cpuSeconds(relay.process.processID) ?? 0) - before
    let elapsed = monotonicSeconds() - began
    let memory = ProcessUsage.megabytes("VmRSS", relay.process.processID) ?? 0
    try relay.terminate()
    var status = stat()
    stat(servers.outboxd, &status)
    return [
      .firstEvent: (arrived - launched) * 1000, .idleMemory: memory, .idleCPU: cpu / elapsed * 100,
      .binarySize: Double(status.st_size) / 1e6,
    ]
  }
}
