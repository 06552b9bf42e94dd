// Owns: latency at given rates, through outboxd in its default configuration, and through Debezium.
// Must not know: how the load is made and the consumer reads; that is the C program's.
import Glibc
import RelayTesting

extension Case {
  static let latencies: [Case] = [100, 1_000, 5_000, 10_000].map { rate in
    Case(
      name: "latency/\(rate)",
      summary:
        "INSERT to consumer at \(rate.grouped) events/s, single-row transactions, synchronous_commit=on"
    ) { bench, report in
      let seconds = bench.options.quick ? 5 : 20
      let payload = 300
      var contenders: [Contender] = [.outboxd(.binary)]
      let hasDebezium = DebeziumRelay.program != nil && KafkaCluster.isReal
      if hasDebezium, rate <= 1_000, !bench.options.quick { contenders.append(.debezium) }
      for turn in 1...bench.options.turns {
        for contender in contenders where bench.options.selects(contender) {
          // A JVM needs longer to be warm.
          let warmUp = contender == .debezium ? 20 : 2
          let load = Load(rate: rate, seconds: seconds, warmUp: warmUp, payloadBytes: payload)
          let figures = try load.measure(contender, bench.servers, report)
          report.add(figures, to: contender.name)
          Progress.say(
            "\(report.name) \(turn)/\(bench.options.turns) \(contender.name): p50 "
              + Figure.latencyMedian.text(figures[.latencyMedian] ?? 0) + " ms")
        }
      }
    }
  }
}

/// An outbox, a topic, and outboxd's own preparation of the database.
final class LiveSetup {
  let servers: Servers
  let prefix: String
  let configuration: RelayConfiguration
  private var topic: String { prefix + "order" }

  init(_ servers: Servers, mode: ContentMode) throws {
    self.servers = servers
    prefix = servers.nextPrefix()
    try Backlog.schema(servers.database, ["bench.outbox"])
    configuration = OutboxdRelay.configuration(
      servers, tables: ["bench.outbox"], slot: "bench_live", prefix: prefix, mode: mode, journal: true)
    let result = try OutboxdProcess.command([
      "init", "--config", try configuration.write(), "--apply", "--as", servers.postgres.adminConninfo(),
    ])
    guard result.status == 0 else { throw HarnessError("init: \(result.errors)\(result.output)") }
    try servers.topics.create([topic])
  }

  /// The C program's consumer on the topic.
  func probe(_ command: String, _ arguments: [String]) throws -> ChildProcess {
    try ChildProcess(
      [
        servers.floor, command, "--topic-prefix", topic, "--conninfo", servers.conninfo(), "-X",
        "bootstrap.servers=\(servers.kafka.bootstrap)",
      ] + arguments)
  }

  func clear() {
    // What is left over ends with the servers.
    try? servers.topics.delete([topic])
    try? Backlog.clear(servers.database)
  }
}

struct Load {
  let rate: Int
  let seconds: Int
  let warmUp: Int
  let payloadBytes: Int

  private var connections: Int { max(4, min(16, rate / 500)) }

  func measure(_ contender: Contender, _ servers: Servers, _ report: CaseReport) throws -> Figures {
    let setup = try LiveSetup(servers, mode: .binary)
    defer { setup.clear() }
    let relay = try LiveRelay(contender, setup)
    defer { relay.stop() }
    let probe = try setup.probe(
      "latency",
      [
        "--table", "bench.outbox", "--rate", "\(rate)", "--seconds", "\(seconds)", "--warm-up", "\(warmUp)",
        "--connections", "\(connections)", "--payload", "\(payloadBytes)",
      ])
    try awaitLine("started", of: probe, within: 30)
    usleep(UInt32(warmUp) * 1_000_000 + 500_000)
    let before = try relay.sample()
    try awaitLine("loaded", of: probe, within: Double(seconds) * 4 + 60)
    let after = try relay.sample()
    try awaitLine("latency", of: probe, within: 30)
    return try figures(probe.output, before, after, contender, relay, report)
  }

  private func awaitLine(_ line: String, of probe: ChildProcess, within seconds: Double) throws {
    try eventually(
      "the load: \(probe.errors)", within: seconds,
      isTrue: {
        if probe.output.contains(line) { return true }
        if ProcessUsage.hasEnded(probe.processID) { throw HarnessError("the load ended: \(probe.errors)") }
        return false
      })
  }

  private func figures(
    _ output: String, _ before: LiveRelay.Sample, _ after: LiveRelay.Sample, _ contender: Contender,
    _ relay: LiveRelay, _ report: CaseReport
  ) throws -> Figures {
    let line = output.split(separator: "\n").last { $0.hasPrefix("latency") } ?? ""
    let values = line.split(separator: " ").dropFirst().compactMap { Double($0) }
    guard values.count == 7 else { throw HarnessError("no latencies: \(output)") }
    var figures: Figures = [
      .latencyMedian: values[0], .latency99: values[1], .latency999: values[2], .latencyMaximum: values[3],
      .eventsPerSecond: values[5], .lateness: values[6],
      .cpuPercent: (after.cpu - before.cpu) / (after.time - before.time) * 100,
      .peakMemory: ProcessUsage.megabytes("VmHWM", relay.processID) ?? 0,
    ]
    if let earlier = before.histogram, let later = after.histogram {
      figures[.acknowledgedMedian] = later.quantile(0.5, since: earlier).map { $0 * 1000 }
      figures[.acknowledged99] = later.quantile(0.99, since: earlier).map { $0 * 1000 }
      figures[.acknowledged999] = later.quantile(0.999, since: earlier).map { $0 * 1000 }
    }
    if values[4] > 0 {
      report.note("\(contender.name): \(Int(values[4])) events had not come 10 s after the load")
    }
    if values[5] < Double(rate) * 0.98 || values[6] > 100 {
      report.note(
        "\(contender.name): the machine could not hold the rate: \(Int(values[5]).grouped) of "
          + "\(rate.grouped) events/s, INSERTs up to \(Figure.lateness.text(values[6])) ms late (p99)")
    }
    return figures
  }
}

/// A relay that is up while the load runs.
private final class LiveRelay {
  struct Sample {
    let time: Double
    let cpu: Double
    let histogram: Histogram?
  }

  let processID: pid_t
  private let outboxd: OutboxdProcess?
  private let debezium: DebeziumRelay?

  init(_ contender: Contender, _ setup: LiveSetup) throws {
    if contender == .debezium {
      let relay = try DebeziumRelay(
        setup.servers, tables: ["bench.outbox"], slot: "bench_live", prefix: setup.prefix)
      (outboxd, debezium, processID) = (nil, relay, relay.processID)
    } else {
      let relay = try OutboxdProcess(setup.configuration)
      (outboxd, debezium, processID) = (relay, nil, relay.process.processID)
    }
    try eventually(
      "\(contender.name) streams", within: 120,
      isTrue: {
        try setup.servers.database.value(
          "SELECT active FROM pg_replication_slots WHERE slot_name = 'bench_live'") == "t"
      })
  }

  func sample() throws -> Sample {
    let histogram = try outboxd.map {
      Histogram("outboxd_delivery_latency_seconds", scrape: try $0.get("/metrics").body)
    }
    return Sample(
      time: monotonicSeconds(), cpu: ProcessUsage.cpuSeconds(processID) ?? 0, histogram: histogram)
  }

  func stop() {
    _ = try? outboxd?.terminate()
    try? debezium?.stop()
  }
}
