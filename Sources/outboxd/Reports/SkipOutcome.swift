// Owns: what a skip gave up, in words and as JSON.
// Must not know: how it is done.
import PostgresSource
import RelayCore

/// What became of a skip.
struct SkipOutcome: Sendable {
  var slot: String
  var transaction: SkippedTransaction
  var checkpoint: LSN
  var isJournaled: Bool
  /// Of the first rows.
  var rows: [RowLine.Summary] = []
  /// Rows by topic; "" is for those that make no event.
  var topics: [String: UInt64] = [:]

  func text(_ request: SkipCommand.Request, _ configuration: Configuration) -> String {
    let what = request.isDryRun ? "would give up" : "gave up"
    var lines: [(String, String)] = [
      (
        "transaction",
        "\(transaction.commitLSN), committed at \(RFC3339.string(microseconds: transaction.commitTime)): \(what) \(count)"
      )
    ]
    lines += rows.map { ("event", Self.line($0)) }
    if rows.count < Int(transaction.rows) {
      let rest = JobText.grouped(UInt64(transaction.rows) - UInt64(rows.count))
      lines.append(("", "and \(rest) more" + (request.isDryRun ? "" : ", all of them in the file")))
    }
    for (topic, number) in topics.sorted(by: { $0.key < $1.key }) {
      lines.append(
        (topic.isEmpty ? "no event" : "topic", (topic.isEmpty ? "" : "\(topic): ") + JobText.grouped(number)))
    }
    if let fault = transaction.fault {
      lines.append(("not read", "the server cannot send the rest of the transaction: \(fault.message)"))
    }
    guard !request.isDryRun else { return RelayStatus.columns(lines) + "Nothing was changed.\n" }
    lines.append(("file", "\(request.file), readable by its owner only"))
    lines.append(("checkpoint", "moved from \(checkpoint) to \(transaction.next)"))
    lines.append(
      (
        "trace",
        isJournaled ? "outboxd.job, command skip" : "none in the database: there is no journal; keep the file"
      ))
    return RelayStatus.columns(lines)
      + "Kafka may have those of its events that were sent before the relay halted.\n"
      + "Start outboxd run: it continues after this transaction.\n"
  }

  private var count: String {
    transaction.rows == 1 ? "1 event" : "\(JobText.grouped(UInt64(transaction.rows))) events"
  }

  private static func line(_ row: RowLine.Summary) -> String {
    row.fault ?? "\(row.table) id \(row.id.map(PrintableText.quoted) ?? "NULL") to topic \(row.topic ?? "")"
  }

  func json(_ request: SkipCommand.Request) -> JSONValue {
    .object(
      [.init("command", .text("skip")), .init("dry_run", .boolean(request.isDryRun))] + members(request))
  }

  /// What `outboxd.job` keeps.
  func trace(_ request: SkipCommand.Request) -> JSONValue { .object(members(request)) }

  private func members(_ request: SkipCommand.Request) -> [JSONValue.Member] {
    [
      .init("slot", .text(slot)),
      .init("lsn", .text("\(transaction.commitLSN)")),
      .init("commit_time", .text(RFC3339.string(microseconds: transaction.commitTime))),
      .init("reason", .text(request.reason)),
      .init("events", .unsigned(UInt64(transaction.rows))),
      .init("topics", .object(topics.sorted { $0.key < $1.key }.map { .init($0.key, .unsigned($0.value)) })),
      .init("file", request.isDryRun ? .null : .text(LinesFile.absolute(request.file))),
      .init("not_read", .optional(transaction.fault?.message)),
      .init("from_lsn", .text("\(checkpoint)")),
      .init("next_lsn", .text("\(transaction.next)")),
    ]
  }
}
