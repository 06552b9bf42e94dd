// Owns: one contender's way through a backlog, measured; and several, interleaved.
// Must not know: which workloads there are.
import Glibc
import RelayTesting

typealias Figures = [Figure: Double]

struct Drain {
  let servers: Servers
  let backlog: Backlog
  /// Topics have this many partitions.
  var partitions: Int32 = 4
  /// Debezium's figures count from here on: its JVM must be warm.
  var warmRowsOfDebezium = 0

  /// Every contender once, then every contender again: what else goes on on the machine hits all of them.
  func compare(
    _ contenders: [Contender], repetitions: Int, in report: CaseReport, labels: (Contender) -> String
  )
    throws
  {
    for repetition in 1...repetitions {
      var runs: [(contender: Contender, figures: Figures)] = []
      for contender in contenders {
        let figures = try run(contender)
        Progress.say(
          "\(report.name) \(repetition)/\(repetitions) \(labels(contender)): "
            + Figure.rowsPerSecond.text(figures[.rowsPerSecond] ?? 0) + " rows/s")
        runs.append((contender, figures))
      }
      Self.relate(&runs)
      for (contender, figures) in runs { report.add(figures, to: labels(contender)) }
    }
  }

  /// Ratios within one repetition.
  private static func relate(_ runs: inout [(contender: Contender, figures: Figures)]) {
    func figures(of contender: Contender?) -> Figures? {
      runs.first { $0.contender == contender }?.figures
    }
    // Not everybody counts the bytes of the stream, and they are the same for all.
    let counted = runs.first { $0.figures[.megabytesPerSecond] != nil }?.figures
    let megabytesPerRow = counted.map { ($0[.megabytesPerSecond] ?? 0) / ($0[.rowsPerSecond] ?? 1) }
    for index in runs.indices {
      guard let rate = runs[index].figures[.rowsPerSecond] else { continue }
      if let megabytesPerRow { runs[index].figures[.megabytesPerSecond] = megabytesPerRow * rate }
      if let receiver = figures(of: .receiver)?[.rowsPerSecond] {
        runs[index].figures[.toReceiver] = rate / receiver
      }
      guard let cpu = runs[index].figures[.cpuPerMillion] else { continue }
      func relate(_ other: Contender?, _ throughput: Figure, _ usage: Figure) {
        guard let other = figures(of: other), let otherRate = other[.rowsPerSecond],
          let otherCPU = other[.cpuPerMillion]
        else { return }
        runs[index].figures[throughput] = rate / otherRate
        runs[index].figures[usage] = cpu / otherCPU
      }
      relate(runs[index].contender.yardstick, .toFloor, .cpuToFloor)
      relate(runs[index].contender.reference, .toReference, .cpuToReference)
    }
  }

  /// Lets librdkafka alone write that many messages, and measures nothing.
  func produce(_ messages: Int) throws {
    let prefix = servers.nextPrefix()
    let topics = backlog.topics(prefix: prefix)
    try servers.topics.create(topics)
    let drainer = try FloorProgram(
      Assignment(servers: servers, backlog: backlog, slot: "", prefix: prefix), "sink", .binary,
      rows: messages)
    try eventually("messages are written", within: 120, isTrue: { try drainer.delivered() >= messages })
    try drainer.stop()
    try servers.topics.delete(topics)
  }

  // MARK: One run

  /// CPU of all who take part.
  private struct Usage {
    var own: Double
    var ticks: (user: Double, system: Double)
    var walsender: Double
    var broker: Double
    /// Megabytes.
    var peak: Double

    /// Counters only rise. A process that has ended says nothing more: what it said last counts.
    func followed(by next: Usage) -> Usage {
      Usage(
        own: max(own, next.own),
        ticks: (max(ticks.user, next.ticks.user), max(ticks.system, next.ticks.system)),
        walsender: max(walsender, next.walsender), broker: max(broker, next.broker),
        peak: max(peak, next.peak))
    }
  }

  func run(_ contender: Contender) throws -> Figures {
    let prefix = servers.nextPrefix()
    let topics = backlog.topics(prefix: prefix)
    if contender.publishes {
      try servers.topics.create(topics, partitions: partitions)
      servers.awaitCalmBroker()
    }
    let slot = contender.readsSlot ? try backlog.copySlot() : ""
    let launched = monotonicSeconds()
    let drainer = try contender.start(
      Assignment(servers: servers, backlog: backlog, slot: slot, prefix: prefix))
    let walsender = contender.readsSlot ? try awaitWalsender(of: slot, drainer) : nil
    let figures = try measure(
      drainer, walsender: walsender, launched: launched,
      warmRows: contender == .debezium ? warmRowsOfDebezium : 0)
    try drainer.stop()
    if contender.readsSlot { try backlog.drop(slot: slot) }
    if contender.publishes {
      let count = try servers.topics.count(topics, partitions: partitions)
      guard count == backlog.workload.rows else {
        throw HarnessError("\(contender.name) wrote \(count) messages for \(backlog.workload.rows) rows")
      }
      try servers.topics.delete(topics)
    }
    return figures
  }

  /// Waits until the server streams, and returns the process that does.
  private func awaitWalsender(of slot: String, _ drainer: any Drainer) throws -> pid_t {
    let deadline = monotonicSeconds() + 120
    while monotonicSeconds() < deadline {
      let query = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = '\(slot)'"
      if let text = try servers.database.value(query), let processID = pid_t(text) { return processID }
      // It may have ended, with a reason.
      _ = try drainer.delivered()
      usleep(1_000)
    }
    throw HarnessError("nobody streams from slot \(slot) after 120 s")
  }

  private func measure(
    _ drainer: any Drainer, walsender: pid_t?, launched: Double, warmRows: Int
  ) throws -> Figures {
    let rows = backlog.workload.rows
    let streaming = monotonicSeconds()
    var begin = (time: streaming, rows: 0, usage: usage(drainer, walsender))
    var last = begin.usage
    let deadline = streaming + 300 + Double(rows) / 2_000
    var pace = QuestionPace(rows: rows, start: streaming)
    while true {
      let count = try drainer.delivered()
      let now = monotonicSeconds()
      last = last.followed(by: usage(drainer, walsender))
      if warmRows > 0, begin.rows == 0, count >= warmRows, count < rows { begin = (now, count, last) }
      if count >= rows {
        return try figures(drainer, from: begin, to: (now, last), streaming: streaming, launched: launched)
      }
      guard now < deadline else {
        throw HarnessError("\(count) of \(rows) rows after \(Int(now - streaming)) s")
      }
      usleep(drainer.isAskedForFree ? 20_000 : pace.pause(count: count, now: now))
    }
  }

  private func usage(_ drainer: any Drainer, _ walsender: pid_t?) -> Usage {
    Usage(
      own: ProcessUsage.cpuSeconds(drainer.processID) ?? 0,
      ticks: ProcessUsage.ticks(drainer.processID) ?? (0, 0),
      walsender: walsender.flatMap(ProcessUsage.cpuSeconds) ?? 0,
      broker: servers.brokerID.flatMap(ProcessUsage.cpuSeconds) ?? 0,
      peak: ProcessUsage.megabytes("VmHWM", drainer.processID) ?? 0)
  }

  private func figures(
    _ drainer: any Drainer, from begin: (time: Double, rows: Int, usage: Usage),
    to end: (time: Double, usage: Usage),
    streaming: Double, launched: Double
  ) throws -> Figures {
    let rows = Double(backlog.workload.rows - begin.rows)
    let seconds = end.time - begin.time
    let millions = rows / 1e6
    var figures: Figures = [
      .rowsPerSecond: rows / seconds,
      .cpuPerMillion: (end.usage.own - begin.usage.own) / millions,
      .userPerMillion: (end.usage.ticks.user - begin.usage.ticks.user) / millions,
      .systemPerMillion: (end.usage.ticks.system - begin.usage.ticks.system) / millions,
      .walsenderPerMillion: (end.usage.walsender - begin.usage.walsender) / millions,
      .startSeconds: streaming - launched,
      .totalSeconds: end.time - launched,
    ]
    if servers.brokerID != nil {
      figures[.brokerPerMillion] = (end.usage.broker - begin.usage.broker) / millions
    }
    if let bytes = try drainer.streamBytes(), begin.rows == 0 {
      figures[.megabytesPerSecond] = bytes / seconds / 1e6
    }
    if end.usage.peak > 0 { figures[.peakMemory] = end.usage.peak }
    return figures
  }
}

/// When to ask again: seldom far from the end, often near it.
private struct QuestionPace {
  let rows: Int
  let start: Double
  private var last = (count: 0, time: 0.0)

  init(rows: Int, start: Double) {
    self.rows = rows
    self.start = start
    last.time = start
  }

  /// Half of the time that seems to be left, in microseconds; 5 ms at least, 200 ms at most.
  mutating func pause(count: Int, now: Double) -> UInt32 {
    var left = now - start
    if count > last.count {
      left = Double(rows - count) * (now - last.time) / Double(count - last.count)
      last = (count, now)
    }
    return UInt32(min(max(left / 2, 0.005), 0.2) * 1e6)
  }
}

enum Progress {
  static func say(_ line: String) {
    let bytes = Array((line + "\n").utf8)
    _ = write(2, bytes, bytes.count)
  }
}
