// Owns: `outboxd recover`: says what is in doubt and how it is mended, mends it, says what came of it.
// Must not know: SQL, how a plan is made, how records are sent.
import PostgresSource
import RelayCore

enum RecoverCommand {
  static func run(_ invocation: Invocation) throws(RelayError) -> Int32 {
    AllocatorTuning.apply(invocation.environment)
    var configuration = try invocation.loadConfiguration().configuration
    let options = try Options(invocation)
    let recovery = try plan(configuration, options)
    configuration.postgres = recovery.settings
    if options.since != nil { try recovery.checkSince(configuration.outboxes) }
    if let fault = recovery.plan.fault, fault.mayBeCopy, !options.isDryRun, !options.isOriginal {
      throw refusal(fault, options, invocation, configuration)
    }
    let text = RecoveryText(recovery, options.since)
    if !options.isJSON { Terminal.printOutput(text.text) }
    if !options.isDryRun { try accept(recovery, options) }
    switch recovery.plan.action {
    case .wal(_, .keep), .tables:
      return try publish(recovery, text, options, invocation, configuration)
    // The slot's new place is not known before it is there.
    case .wal where !options.isDryRun:
      return try publish(recovery, text, options, invocation, configuration)
    case .wal, .nothing, .rewind, .adopt: break
    }
    let log = configuration.log.makeLog()
    var cut: SlotStart?
    if !options.isDryRun, recovery.plan.action != .nothing {
      if recovery.needsCut { cut = try self.cut(recovery, log) }
      try recovery.complete(cut, stop: StopSignal())
    }
    if options.isJSON {
      let isDone = !options.isDryRun
      Terminal.printOutput(
        JSONValue.object(
          [.init("command", .text("recover")), .init("complete", .boolean(isDone))] + text.members(cut)
        ).pretty)
    } else if !options.isDryRun, recovery.plan.action != .nothing {
      Terminal.printOutput("Done: outboxd run goes on.\n")
    }
    return 0
  }

  private static func plan(
    _ configuration: Configuration, _ options: Options
  ) throws(RelayError) -> Recovery {
    do throws(RelayError) {
      return try Recovery.plan(
        settings: configuration.postgres, mappings: configuration.outboxes, wish: options.wish,
        stop: StopSignal(), log: configuration.log.makeLog())
    } catch {
      throw error.withWayOut
    }
  }

  /// It may wait for older transactions without end.
  private static func cut(_ recovery: Recovery, _ log: Log) throws(RelayError) -> SlotStart {
    try Interruption.run(log: log) { (stop) throws(RelayError) in try recovery.cut(stop: stop, log: log) }
  }

  /// Events of a history that is no more may lie beyond the end of the WAL: from now on they betray no copy.
  private static func accept(_ recovery: Recovery, _ options: Options) throws(RelayError) {
    let kind = recovery.plan.fault?.kind
    guard options.isOriginal || kind == .timelineDiverged || kind == .serverBehindCheckpoint else { return }
    try recovery.acceptOrigin(stop: StopSignal())
    guard options.isOriginal, !options.isJSON else { return }
    Terminal.printOutput(
      "noted     this server is the original: what Kafka has by now is of its former history\n")
  }

  /// A halt is all that stands between a copy and the topics of the original. So also to adopt the server as it is needs
  /// the word of an operator; what changes nothing does not.
  private static func refusal(
    _ fault: RelayError, _ options: Options, _ invocation: Invocation, _ configuration: Configuration
  ) -> RelayError {
    let words = invocation.options.sorted { $0.key < $1.key }.flatMap { name, values in
      values.map {
        $0.isEmpty ? " --\(name)" : " --\(name) \(ShellText.quoted(Redaction.word($0, of: name)))"
      }
    }
    return RelayError(
      .usage,
      "\(fault.message); "
        + (options.wish == .adopt
          ? "outboxd run would then publish to " : "outboxd recover would publish to ")
        + configuration.destination,
      remedy:
        "If this server is the original: outboxd recover --yes-this-is-the-original\(words.joined()). If it is a "
        + "copy, do not run outboxd here with this configuration: see \"A copy of production\" in the manual."
    )
  }

  private struct Options {
    var wish = RecoveryWish.mend
    var since: PostgresMicroseconds?
    var rate: Int?
    var isDryRun: Bool
    var isOriginal: Bool
    var isJSON: Bool

    init(_ invocation: Invocation) throws(RelayError) {
      isDryRun = invocation.isSet("dry-run")
      isJSON = invocation.isSet("json")
      isOriginal = invocation.isSet("yes-this-is-the-original")
      rate = try ReplayOptions.rate(invocation)
      if invocation.isSet("adopt"), invocation.isSet("tables") {
        throw invocation.usage("--adopt publishes nothing, and --tables publishes: choose one")
      }
      if invocation.isSet("adopt") { wish = .adopt }
      if invocation.isSet("tables") { wish = .tables }
      guard let text = invocation.value("since") else { return }
      if wish == .adopt { throw invocation.usage("--adopt publishes nothing: it takes no --since") }
      guard case .time(let time) = try ReplayPlaceText.parse(text, option: "--since", now: postgresNow())
      else {
        throw invocation.usage("--since takes a time, not an LSN: rows of a table have none")
      }
      since = time
    }
  }

  /// The cut first, then what lies before it, from the anchor or the tables, and the journal when Kafka has it all.
  private static func publish(
    _ recovery: Recovery, _ text: RecoveryText, _ options: Options, _ invocation: Invocation,
    _ configuration: Configuration
  ) throws(RelayError) -> Int32 {
    let log = configuration.log.makeLog()
    let cut = options.isDryRun ? nil : try self.cut(recovery, log)
    let range = recovery.range(before: cut, since: options.since)
    let replay = recovery.replay(before: cut)
    let (settings, mappings) = (configuration.postgres, configuration.outboxes)
    let reads = recovery.reads
    let tally = TableTally()
    let job = Job(
      command: "recover", verb: "recovering", configuration: configuration,
      options: RelayOptions(hasPositions: replay != nil), target: options.isDryRun ? .count : .kafka,
      rate: options.rate, request: .object(text.members(cut)),
      open: { (position, stop, log) throws(RelayError) -> any BoundedSource in
        if let replay {
          return try PostgresSource.openRange(
            replay, resume: position, settings: settings, mappings: mappings, stop: stop, log: log)
        }
        return try PostgresSource.openTables(
          range, resume: position, settings: settings, reads: reads, tally: tally, stop: stop, log: log)
      })
    var outcome = try JobRunner.run(job, environment: invocation.environment)
    if outcome.isComplete, let cut {
      do throws(RelayError) {
        try recovery.complete(cut, stop: StopSignal())
      } catch {
        outcome.failure = error
        outcome.failure?.message += "; everything was published, and the gap is still on record"
      }
    }
    var report = JobReport(job: job, outcome: outcome)
    // The report has more of the tables.
    report.details = text.members(cut).filter { $0.name != "tables" || replay != nil }
    if replay == nil { report.note(tally, doubt: "may have been published before") }
    if let cut, outcome.isComplete {
      report.notes.append("outboxd run goes on at \(recovery.plan.place ?? cut.lsn)")
    }
    return report.finish(isJSON: options.isJSON)
  }
}

/// A recovery in words.
struct RecoveryText {
  private let plan: RecoveryPlan
  private let slot: String
  private let tables: [RecoveredTable]
  private let since: PostgresMicroseconds?
  private let hasSlot: Bool

  init(_ recovery: Recovery, _ since: PostgresMicroseconds?) {
    plan = recovery.plan
    slot = recovery.settings.slot
    tables = recovery.tables
    hasSlot = recovery.facts.slot != nil
    self.since = since
  }

  /// What is wrong, what is in doubt, what is done about it.
  private var lines: [(String, String)] {
    guard plan.action != .nothing else {
      let read = hasSlot ? ", and its stream can be read up to \(end)" : ""
      return [("state", "nothing is in doubt on slot \"\(slot)\"\(read): outboxd run goes on by itself")]
    }
    var list: [(String, String)] = []
    if let fault = plan.fault { list.append(("fault", fault.message)) }
    list.append(("in doubt", range))
    list.append(("remedy", remedy))
    list += tables.map { table in
      ("reads", table.name + (table.outbox.map { ", which had rows of \($0)" } ?? ""))
    }
    return list
  }

  var text: String {
    lines.map { name, value in
      name + String(repeating: " ", count: max(1, 10 - name.utf8.count))
        + PrintableText.escapingControls(value) + "\n"
    }.joined()
  }

  private var range: String {
    plan.from.map { "what was committed from \($0) to \(end)" }
      ?? "everything that was committed up to \(end)"
  }

  private var end: String { plan.through?.description ?? "the end of the WAL" }

  private var remedy: String {
    switch plan.action {
    case .nothing: "none is needed"
    case .rewind(let lsn):
      "the checkpoint goes back to \(lsn), which this server's history has too, and the stream sends everything after it"
    case .wal(_, let slot):
      slotText(slot) + "the anchor still has the WAL from there on: exactly this range is published from it"
    case .tables(let lowest, let slot):
      slotText(slot) + "every row of the tables "
        + (lowest.map { "of transaction \($0) and later ones " } ?? "")
        + (since.map { "since \(RFC3339.string(microseconds: $0)) " } ?? "")
        + "is published, also what was published before; deleted rows cannot be"
        + (plan.place.map { ", except those after \($0), which the slot still has" } ?? "")
    case .adopt(let place, let slot):
      (place == nil ? slotText(slot) : "")
        + "outboxd run goes on at \(place?.description ?? "a new place"); what is in doubt is given up"
    }
  }

  private func slotText(_ slot: RecoveryPlan.Slot) -> String {
    switch slot {
    case .create: "the slot is created; "
    case .replace: "the slot, which cannot be read, is dropped and created; "
    case .keep: ""
    }
  }

  func members(_ cut: SlotStart?) -> [JSONValue.Member] {
    var name = "nothing"
    var lowest: UInt64?
    switch plan.action {
    case .nothing: break
    case .rewind: name = "rewind"
    case .wal: name = "wal"
    case .tables(let transaction, _): (name, lowest) = ("tables", transaction)
    case .adopt: name = "adopt"
    }
    return [
      .init("action", .text(name)),
      .init("fault", .optional(plan.fault?.kind.rawValue)),
      .init("message", .optional(plan.fault?.message)),
      .init("from_lsn", .optional(plan.from?.description)),
      .init("through_lsn", .optional(plan.through?.description)),
      .init("lowest_transaction", lowest.map { .unsigned($0) } ?? .null),
      .init(
        "tables",
        .array(
          tables.map {
            .object([.init("table", .text($0.name)), .init("former_outbox", .optional($0.outbox))])
          })),
      .init("since", .optional(since.map { RFC3339.string(microseconds: $0) })),
      .init("start_lsn", .optional(cut.map { (plan.place ?? $0.lsn).description })),
    ]
  }
}
