// Owns: the list of cases, and the drains among them.
// Must not know: how a drain is measured.
import RelayTesting

/// What a case may use.
struct Bench {
  let servers: Servers
  let options: Options
}

struct Case: Sendable {
  let name: String
  let summary: String
  let run: @Sendable (Bench, CaseReport) throws -> Void

  /// In the order in which they run.
  static let all: [Case] = [messages] + drains + [footprint] + latencies + growth + [debezium]

  // MARK: Drains

  private static let drains: [Case] = [
    drain("txn-100", Workload(rows: 1_000_000)),
    drain("txn-1", Workload(rows: 1_000_000, rowsPerTransaction: 1)),
    drain("txn-1000000", Workload(rows: 1_000_000, rowsPerTransaction: .max)),
    drain("payload-100", Workload(rows: 1_000_000, payloadBytes: 100)),
    drain("payload-4096", Workload(rows: 200_000, payloadBytes: 4096)),
    drain("payload-102400", Workload(rows: 10_000, payloadBytes: 102_400)),
    drain("tables-50", Workload(rows: 300_000, tables: 50)),
  ]

  private static func drain(_ name: String, _ workload: Workload) -> Case {
    Case(name: "drain/" + name, summary: workload.title) { bench, report in
      // A 100 KB payload for each of a million rows would be 100 GB.
      let limit = max(1_000, 1_024_000_000 / workload.payloadBytes)
      let rows = min(limit, bench.options.scaled(workload.rows))
      if rows != workload.rows { report.note("Here with \(rows.grouped) rows.") }
      try compare(
        workload, rows: rows,
        [
          .receiver, .floor(.structured), .reference(.structured), .outboxd(.structured), .floor(.binary),
          .reference(.binary), .outboxd(.binary), .sink(.structured), .sink(.binary),
        ].filter { bench.servers.reference != nil || !$0.isReference }, bench, report)
    }
  }

  private static func compare(
    _ workload: Workload, rows: Int, _ contenders: [Contender], _ bench: Bench, _ report: CaseReport,
    partitions: Int32 = 4, labels: (Contender) -> String = \.name
  ) throws {
    var workload = workload
    workload.rows = rows
    workload.rowsPerTransaction = min(rows, workload.rowsPerTransaction)
    Progress.say("\(report.name): writing \(workload.title)")
    let backlog = try Backlog(workload, bench.servers.database)
    try Drain(servers: bench.servers, backlog: backlog, partitions: partitions)
      .compare(
        contenders.filter(bench.options.selects), repetitions: bench.options.turns, in: report, labels: labels
      )
    try backlog.clear()
  }

  // MARK: Growth

  private static let growth: [Case] = [
    Case(name: "growth/rows", summary: "cost per event from 10,000 to 1,000,000 rows (--full: 10,000,000)") {
      bench, report in
      var sizes = [10_000, 100_000, 1_000_000]
      if bench.options.quick { sizes.removeLast() }
      if bench.options.full { sizes.append(10_000_000) }
      for rows in sizes {
        try grow(Workload(rows: rows), "\(rows.grouped) rows", bench, report)
      }
    },
    Case(name: "growth/topics", summary: "cost per event from 1 to 1,000 topics, of one partition each") {
      bench, report in
      for topics in [1, 10, 100, 1000] {
        let workload = Workload(rows: bench.options.scaled(500_000), topics: topics)
        try grow(workload, "\(topics.grouped) topics", bench, report, partitions: 1)
      }
    },
    Case(name: "growth/keys", summary: "cost per event from 10 to 1,000,000 keys") { bench, report in
      for keys in [10, 1_000, 100_000, 1_000_000] {
        let workload = Workload(rows: bench.options.scaled(1_000_000), keys: keys)
        try grow(workload, "\(keys.grouped) keys", bench, report)
      }
    },
  ]

  private static func grow(
    _ workload: Workload, _ size: String, _ bench: Bench, _ report: CaseReport, partitions: Int32 = 4
  ) throws {
    try compare(
      workload, rows: workload.rows, [.floor(.binary), .outboxd(.binary)], bench, report,
      partitions: partitions
    ) { "\($0.name), \(size)" }
  }

  // MARK: Debezium

  private static let debezium = Case(
    name: "debezium", summary: "Debezium on the same WAL and Kafka, once it has drained 300,000 rows"
  ) { bench, report in
    guard DebeziumRelay.program != nil else {
      report.note("Left out: there is no ../shared/debezium/start (OUTBOXD_BENCH_DEBEZIUM).")
      return
    }
    guard KafkaCluster.isReal else {
      report.note("Left out: Debezium needs a real Kafka.")
      return
    }
    let rows = bench.options.rows ?? (bench.options.quick ? 500_000 : 1_000_000)
    let workload = Workload(rows: rows)
    Progress.say("\(report.name): writing \(workload.title)")
    let backlog = try Backlog(workload, bench.servers.database)
    // With few rows, for a trial: a third of them, of which the report tells.
    let warmRows = min(300_000, rows / 3)
    report.note("Debezium's figures are from row \(warmRows.grouped) on.")
    var drain = Drain(servers: bench.servers, backlog: backlog)
    drain.warmRowsOfDebezium = warmRows
    try drain.compare(
      [.receiver, .outboxd(.structured), .outboxd(.binary), .debezium].filter(bench.options.selects),
      repetitions: bench.options.turns,
      in: report, labels: \.name)
    try backlog.clear()
  }
}
