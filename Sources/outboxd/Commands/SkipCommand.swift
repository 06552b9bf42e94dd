// Owns: `outboxd skip`: writes the transaction to a file, moves the checkpoint past it, says what was given up.
// Must not know: SQL, the form of a line.
import PostgresSource
import RelayCore

enum SkipCommand {
  static func run(_ invocation: Invocation) throws(RelayError) -> Int32 {
    AllocatorTuning.apply(invocation.environment)
    let request = try Request(invocation)
    let configuration = try invocation.loadConfiguration().configuration
    let outcome = try Interruption.run(log: configuration.log.makeLog()) {
      (stop) throws(RelayError) -> SkipOutcome in
      try skip(request, configuration, stop)
    }
    Terminal.printOutput(
      invocation.isSet("json") ? outcome.json(request).pretty : outcome.text(request, configuration))
    return 0
  }

  /// What the command line says.
  struct Request: Sendable {
    var lsn: LSN
    var reason: String
    var file: String
    var isDryRun: Bool

    init(_ invocation: Invocation) throws(RelayError) {
      guard let text = invocation.value("lsn") else {
        throw invocation.usage("skip needs --lsn, the transaction that outboxd run halted at")
      }
      guard let lsn = LSN(text), lsn > .zero else {
        throw invocation.usage("--lsn \(PrintableText.quoted(text)) is not an LSN, such as 0/16B3748")
      }
      let reason = invocation.value("reason") ?? ""
      guard reason.contains(where: { !$0.isWhitespace }) else {
        throw invocation.usage("skip needs --reason: why these events are given up; outboxd.job keeps it")
      }
      self.lsn = lsn
      self.reason = reason
      let name = String("\(lsn)".map { $0 == "/" ? "-" : $0 })
      file = invocation.value("to-file") ?? "outboxd-skipped-\(name).jsonl"
      isDryRun = invocation.isSet("dry-run")
    }
  }

  /// How many rows are named on the terminal; the file has all.
  private static let namedRows = 10
  private static let topicLimit = 1000

  private static func skip(
    _ request: Request, _ configuration: Configuration, _ stop: StopSignal
  ) throws(RelayError) -> SkipOutcome {
    let skip = try TransactionSkip(
      settings: configuration.postgres, mappings: configuration.outboxes, lsn: request.lsn, stop: stop)
    defer { skip.release() }
    let file = request.isDryRun ? nil : try LinesFile(path: request.file)
    var outcome: SkipOutcome
    do throws(RelayError) {
      outcome = try read(skip, configuration, file)
      if let fault = outcome.transaction.fault {
        try file?.append(contentsOf: note(fault, outcome.transaction))
      }
      try file?.synchronize()
    } catch {
      file?.remove()
      throw error
    }
    guard !request.isDryRun else { return outcome }
    do throws(RelayError) {
      try skip.complete(outcome.transaction, request: outcome.trace(request).compact)
    } catch {
      var error = error
      error.message += "; the file \(request.file) is written"
      throw error
    }
    return outcome
  }

  private static func read(
    _ skip: TransactionSkip, _ configuration: Configuration, _ file: LinesFile?
  ) throws(RelayError) -> SkipOutcome {
    var lines = RowLine(
      mappings: configuration.outboxes, database: skip.facts.database, isUTF8: skip.isUTF8)
    var rows: [RowLine.Summary] = []
    var topics: [String: UInt64] = [:]
    let transaction = try skip.read { (part) throws(RelayError) in
      switch part {
      case .relation(let relation): lines.prepare(relation)
      case .row(let row, let commitLSN, let commitTime, let index):
        let (line, summary) = try lines.line(
          of: row, commitLSN: commitLSN, commitTime: commitTime, index: index)
        try file?.append(contentsOf: line)
        if rows.count < namedRows { rows.append(summary) }
        let topic = summary.topic ?? ""
        if topics[topic] != nil || topics.count < topicLimit { topics[topic, default: 0] += 1 }
      }
    }
    return SkipOutcome(
      slot: configuration.postgres.slot, transaction: transaction, checkpoint: skip.checkpoint,
      isJournaled: skip.facts.journal.isInUse, rows: rows, topics: topics)
  }

  /// The last line where the server could not send everything.
  private static func note(_ fault: RelayError, _ transaction: SkippedTransaction) -> [UInt8] {
    let line = JSONValue.object([
      .init("fault", .text("the server cannot send the rest of the transaction: \(fault.message)")),
      .init("code", .optional(fault.code)),
      .init("rows_before", .unsigned(UInt64(transaction.rows))),
    ])
    return Array((line.compact + "\n").utf8)
  }
}
