// Owns: what a job says at its end, for people and as JSON, and its exit code.
// Must not know: how the job was done.
import PostgresSource
import RelayCore

/// The report of one job.
struct JobReport {
  let job: Job
  let outcome: JobOutcome
  /// What the command adds: the range, for example. Notes are under `notes`.
  var details: [JSONValue.Member] = []
  /// What a person must know of the result, a sentence each.
  var notes: [String] = []
  /// What was read of tables.
  private var tables: [TableCount] = []

  init(job: Job, outcome: JobOutcome) {
    self.job = job
    self.outcome = outcome
  }

  /// Adds by which proof the rows of tables were read.
  /// - Parameter doubt: what may be of the rows that nothing proves to belong to the range.
  mutating func note(_ tally: TableTally, doubt: String) {
    tables = tally.counts
    func sum(_ count: KeyPath<TableCount, UInt64>) -> UInt64 { tables.reduce(0) { $0 + $1[keyPath: count] } }
    details += [
      .init("rows_certain", .unsigned(sum(\.certain))),
      .init("rows_in_doubt", .unsigned(sum(\.doubtful))),
      .init("rows_left_to_stream", .unsigned(sum(\.streamed))),
      .init("doubt", .optional(tables.first { $0.doubtful > 0 }?.gap)),
      .init("tables", .array(tables.map(Self.json))),
    ]
    if sum(\.streamed) > 0 {
      notes.append(
        "\(JobText.grouped(sum(\.streamed))) rows were left out: the WAL shows that they were inserted later")
    }
    notes += tally.dropped.map { table in
      "a table or partition (OID \(table.oid)) that had rows of \(table.outbox) was dropped: its rows cannot be sent"
    }
    for table in tables where table.doubtful > 0 {
      notes.append(
        "\(JobText.grouped(table.doubtful)) rows of \(table.table) are in doubt: they \(doubt) (\(table.gap ?? ""))"
      )
    }
  }

  /// Prints the result on standard output, or on standard error where that holds the data; and a failure on standard
  /// error.
  /// - Returns: the exit code.
  func finish(isJSON: Bool) -> Int32 {
    let hasNothing = outcome.failure != nil && outcome.read == 0
    if isJSON {
      Terminal.printOutput(json.pretty)
    } else if hasNothing {
      // The failure says it all.
    } else if job.target == .standardOutput {
      Terminal.printError(text)
    } else {
      Terminal.printOutput(text)
    }
    guard let failure = outcome.failure else { return 0 }
    Terminal.printError(CommandLineProgram.text(of: failure))
    return failure.kind.exitCode
  }

  var json: JSONValue {
    .object(
      [
        .init("command", .text(job.command)),
        .init("job", outcome.id.map { .integer($0) } ?? .null),
        .init("complete", .boolean(outcome.isComplete)),
        .init("resumed", .boolean(outcome.isResumed)),
      ] + details + [
        .init("read", .unsigned(outcome.read)),
        .init("selected", .unsigned(outcome.selected)),
        .init("sent", .unsigned(job.target == .count ? 0 : outcome.sent)),
        .init("sent_before", .unsigned(outcome.sentBefore)),
        .init("topics", Self.object(outcome.topics)),
        .init("counts", outcome.counts.map(Self.json) ?? .null),
        .init("seconds", .number(Double(outcome.milliseconds) / 1000)),
        .init("rate", .number(outcome.rate.rounded())),
        .init("notes", .array(notes.map { .text($0) })),
        .init("failure", outcome.failure.map(Self.json) ?? .null),
      ])
  }

  var text: String {
    var lines: [String] = []
    let count = JobText.grouped(outcome.sent)
    switch job.target {
    case .count:
      lines.append("\(count) events would be sent, of \(JobText.grouped(outcome.read)) read; none was sent.")
    default:
      var line = "\(count) events sent, of \(JobText.grouped(outcome.read)) read"
      if outcome.isResumed { line += ", and \(JobText.grouped(outcome.sentBefore)) sent before" }
      lines.append(line + ", in \(seconds) s, \(JobText.grouped(UInt64(outcome.rate)))/s.")
    }
    lines += tables.map(Self.line)
    lines += Self.list("topic", outcome.topics)
    if let counts = outcome.counts { lines += Self.lines(counts) }
    lines += notes.map { "note: \($0)" }
    return lines.map { PrintableText.escapingControls($0) + "\n" }.joined()
  }

  private var seconds: String {
    let tenths = outcome.milliseconds / 100
    return "\(tenths / 10).\(tenths % 10)"
  }

  private static func line(_ table: TableCount) -> String {
    let former = table.outbox.map { ", which had rows of \($0)" } ?? ""
    var line = "  table \(table.table)\(former): \(JobText.grouped(table.certain)) rows certain"
    if table.doubtful > 0 { line += ", \(JobText.grouped(table.doubtful)) in doubt" }
    if table.streamed > 0 { line += ", \(JobText.grouped(table.streamed)) left to the stream" }
    return line + ", in order \(table.order)"
  }

  private static func json(_ table: TableCount) -> JSONValue {
    .object([
      .init("table", .text(table.table)), .init("former_outbox", .optional(table.outbox)),
      .init("order", .text(table.order)), .init("rows_certain", .unsigned(table.certain)),
      .init("rows_in_doubt", .unsigned(table.doubtful)),
      .init("rows_left_to_stream", .unsigned(table.streamed)),
      .init("doubt", .optional(table.doubtful > 0 ? table.gap : nil)),
    ])
  }

  private static func list(_ name: String, _ counts: [String: UInt64]) -> [String] {
    counts.sorted { $0.key < $1.key }.map { "  \(name) \($0.key): \(JobText.grouped($0.value))" }
  }

  private static func lines(_ counts: EventCounts) -> [String] {
    var lines = list("source", counts.sources) + list("type", counts.types)
    if let first = counts.firstTime, let last = counts.lastTime {
      lines.append(
        "  time \(RFC3339.string(microseconds: first)) to \(RFC3339.string(microseconds: last))")
    }
    if let first = counts.firstLSN, let last = counts.lastLSN {
      lines.append("  commit LSN \(first) to \(last)")
    }
    return lines
  }

  private static func json(_ counts: EventCounts) -> JSONValue {
    .object([
      .init("events", .unsigned(counts.records)),
      .init("bytes", .unsigned(counts.bytes)),
      .init("sources", object(counts.sources)),
      .init("types", object(counts.types)),
      .init("first_time", .optional(counts.firstTime.map { RFC3339.string(microseconds: $0) })),
      .init("last_time", .optional(counts.lastTime.map { RFC3339.string(microseconds: $0) })),
      .init("first_lsn", .optional(counts.firstLSN?.description)),
      .init("last_lsn", .optional(counts.lastLSN?.description)),
    ])
  }

  private static func json(_ failure: RelayError) -> JSONValue {
    .object([
      .init("kind", .text(failure.kind.rawValue)), .init("message", .text(failure.message)),
      .init("code", .optional(failure.code)), .init("remedy", .optional(failure.remedy)),
    ])
  }

  private static func object(_ counts: [String: UInt64]) -> JSONValue {
    .object(counts.sorted { $0.key < $1.key }.map { .init($0.key, .unsigned($0.value)) })
  }
}
