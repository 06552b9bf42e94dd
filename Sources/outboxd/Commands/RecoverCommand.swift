// Owns: `outboxd recover`: says what is in doubt and how it is repaired, repairs it, says what came of it.
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
      Terminal.printOutput("Done: start outboxd run.\n")
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
      throw error.withLastRemedy
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
      "noted     this server is the original: Kafka's present events belong to its former history\n")
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
    var wish = RecoveryWish.repair
    var since: PostgresMicroseconds?
    var rate: Int?
    var isDryRun: Bool
    var isOriginal: Bool
    var isJSON: Bool

    init(_ invocation: Invocation) throws(RelayError) {
      isDryRun = invocation.isSet("dry-run")
      isJSON = invocation.isSet("json")
      isOriginal = invocation.isSet("yes-this-is-the-original")
      rate = try EventRequest.rate(invocation)
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

  /// Publishes the range from the anchor where `replay` says so, else from the tables.
  private static func job(
    _ recovery: Recovery, _ replay: ReplayPlan?, before cut: SlotStart?, _ tally: TableTally,
    _ text: RecoveryText, _ options: Options, _ configuration: Configuration
  ) -> Job {
    let range = recovery.range(before: cut, since: options.since)
    let (settings, mappings) = (configuration.postgres, configuration.outboxes)
    let reads = recovery.reads
    return Job(
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
  }

  /// The cut first, then what lies before it, from the anchor or the tables, and the journal when Kafka has it all.
  private static func publish(
    _ recovery: Recovery, _ text: RecoveryText, _ options: Options, _ invocation: Invocation,
    _ configuration: Configuration
  ) throws(RelayError) -> Int32 {
    let log = configuration.log.makeLog()
    let cut = options.isDryRun ? nil : try self.cut(recovery, log)
    let replay = recovery.replay(before: cut)
    let tally = TableTally()
    let job = job(recovery, replay, before: cut, tally, text, options, configuration)
    var outcome = try JobRunner.run(job, environment: invocation.environment)
    if outcome.isComplete, let cut {
      do throws(RelayError) {
        try recovery.complete(cut, stop: StopSignal())
      } catch {
        outcome.failure = error
        outcome.failure?.message += "; everything was published, but the gap is still on record"
      }
    }
    var report = JobReport(job: job, outcome: outcome)
    // The report has more of the tables.
    report.details = text.members(cut).filter { $0.name != "tables" || replay != nil }
    if replay == nil { report.note(tally, doubt: "may have been published before") }
    if let cut, outcome.isComplete {
      report.notes.append("outboxd run continues at \(recovery.plan.place ?? cut.lsn)")
    }
    return report.finish(isJSON: options.isJSON)
  }
}
