// Owns: `outboxd replay`: plan the range or find the interrupted job, run it, say what came of it.
// Must not know: SQL, how records are sent.
import PostgresSource
import RelayCore

enum ReplayCommand {
  static func run(_ invocation: Invocation) throws(RelayError) -> Int32 {
    AllocatorTuning.apply(invocation.environment)
    var configuration = try invocation.loadConfiguration().configuration
    let tally = TableTally()
    let job: Job
    let request: ReplayRequest
    if invocation.isSet("resume") {
      (job, request) = try resume(tally, invocation, &configuration)
    } else {
      (job, request) = try begin(tally, invocation, &configuration)
    }
    announce(request, job)
    let outcome = try JobRunner.run(job, environment: invocation.environment)
    var report = JobReport(job: job, outcome: outcome)
    report.details = details(request.plan)
    report.notes = request.plan.notes
    if request.plan.origin == .table {
      report.note(tally, doubt: "were written after the range, and may have been inserted after it")
    }
    return report.finish(isJSON: invocation.isSet("json"))
  }

  // MARK: A new replay

  /// The configuration then leads to the server of the plan.
  private static func begin(
    _ tally: TableTally, _ invocation: Invocation, _ configuration: inout Configuration
  ) throws(RelayError) -> (Job, ReplayRequest) {
    if invocation.isSet("job") { throw invocation.usage("--job needs --resume: it names the job to resume") }
    let options = try ReplayOptions(invocation, mappings: configuration.outboxes, now: postgresNow())
    configuration.postgres = try configuration.postgres.identified(stop: StopSignal())
    let plan = try PostgresSource.planReplay(
      settings: configuration.postgres, mappings: configuration.outboxes, from: options.from, to: options.to,
      origin: options.origin, stop: StopSignal())
    var request = ReplayRequest(plan: plan)
    request.events = options.events
    let target = options.isDryRun ? JobTarget.count : request.events.target
    if target.isResumable { tellUnfinished(invocation, configuration) }
    return (job(request, target: target, tally, invocation, configuration), request)
  }

  /// A replay that was interrupted is said of once, since nobody else would.
  private static func tellUnfinished(_ invocation: Invocation, _ configuration: Configuration) {
    guard let store = try? JobStore(settings: configuration.postgres, stop: StopSignal()),
      let jobs = try? store.unfinished(command: "replay").filter({ !$0.isRunning }), let newest = jobs.first
    else { return }
    configuration.log.makeLog().notice(
      "an earlier replay was interrupted and is unfinished", ("job", String(newest.id)),
      ("started", newest.startedAt), ("sent", String(newest.events)), ("interrupted", String(jobs.count)),
      ("resume", JobResumption.command("replay", newest.id, invocation)),
      ("forget", "UPDATE outboxd.job SET finished_at = now() WHERE id = \(newest.id);"))
  }

  // MARK: An interrupted one

  private static func resume(
    _ tally: TableTally, _ invocation: Invocation, _ configuration: inout Configuration
  ) throws(RelayError) -> (Job, ReplayRequest) {
    let record = try JobResumption.interrupted(
      "replay", without: ReplayOptions.fixed, invocation, &configuration)
    guard var request = ReplayRequest(json: record.request) else {
      throw JobResumption.unreadable(record)
    }
    try JobResumption.take(&request.events, record, configuration.outboxes, invocation)
    var job = job(request, target: request.events.target, tally, invocation, configuration)
    job.resumed = record
    return (job, request)
  }

  // MARK: Both

  private static func job(
    _ request: ReplayRequest, target: JobTarget, _ tally: TableTally, _ invocation: Invocation,
    _ configuration: Configuration
  ) -> Job {
    let (plan, settings) = (request.plan, configuration.postgres)
    let mappings =
      plan.origin == .wal ? configuration.outboxes : request.events.mappings(configuration.outboxes)
    return Job(
      command: "replay", verb: "replaying", configuration: configuration, options: request.options,
      target: target, rate: request.events.rate, request: request.json,
      resumeCommand: { [events = request.events] in
        JobResumption.command("replay", $0, invocation, file: events.file, topic: events.topic)
      },
      open: { (position, stop, log) throws(RelayError) -> any BoundedSource in
        switch plan.origin {
        case .wal:
          return try PostgresSource.openRange(
            plan, resume: position, settings: settings, mappings: mappings, stop: stop, log: log)
        case .table:
          // A time column is the application's, and may be older than the commit: only transaction ids bound the rows.
          var range = TableRange()
          range.lowestTransaction = plan.lowestTransaction
          range.endTransaction = plan.endTransaction
          range.streamStart = LSN(plan.through.rawValue &+ 1)
          range.committedSince = plan.fromTime
          return try PostgresSource.openTables(
            range, resume: position, settings: settings, mappings: mappings, tally: tally, stop: stop,
            log: log)
        }
      })
  }

  private static func announce(_ request: ReplayRequest, _ job: Job) {
    let log = job.configuration.log.makeLog()
    let plan = request.plan
    var fields: [Log.Field] = [
      ("source", plan.origin.rawValue), ("from", plan.from.description),
      ("through", plan.through.description),
    ]
    if let time = plan.fromTime { fields.append(("from_time", RFC3339.string(microseconds: time))) }
    if let time = plan.toTime { fields.append(("to_time", RFC3339.string(microseconds: time))) }
    if let record = job.resumed {
      fields += [("job", String(record.id)), ("sent_before", String(record.events))]
      fields += request.events.place
    }
    log.write(.notice, job.resumed == nil ? "replaying" : "resuming the replay", fields)
    for note in plan.notes { log.notice("replay", ("note", note)) }
  }

  private static func details(_ plan: ReplayPlan) -> [JSONValue.Member] {
    [
      .init("source", .text(plan.origin.rawValue)),
      .init("from_lsn", .text(plan.from.description)),
      .init("through_lsn", .text(plan.through.description)),
      .init("from_time", .optional(plan.fromTime.map { RFC3339.string(microseconds: $0) })),
      .init("to_time", .optional(plan.toTime.map { RFC3339.string(microseconds: $0) })),
    ]
  }
}
