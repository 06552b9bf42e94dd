// Owns: `outboxd backfill`: the slot's start, or the interrupted job; run it, say what came of it.
// Must not know: SQL, how records are sent.
import PostgresSource
import RelayCore

enum BackfillCommand {
  static func run(_ invocation: Invocation) throws(RelayError) -> Int32 {
    AllocatorTuning.apply(invocation.environment)
    var configuration = try invocation.loadConfiguration().configuration
    let tally = TableTally()
    var job: Job
    let request: TableRequest
    var notes: [String] = []
    if invocation.isSet("resume") {
      let record = try JobResumption.interrupted(
        "backfill", without: TableRequest.fixed, invocation, &configuration)
      guard var resumed = TableRequest(json: record.request) else {
        throw JobResumption.unreadable(record)
      }
      try JobResumption.take(&resumed.events, record, configuration.outboxes, invocation)
      try PostgresSource.requireOwn(
        try resumed.reads(configuration.outboxes), settings: configuration.postgres, stop: StopSignal())
      configuration.log.makeLog().write(
        .notice, "resuming the backfill",
        [("job", String(record.id)), ("sent_before", String(record.events))] + resumed.events.place)
      request = resumed
      job = try self.job(request, tally, invocation, configuration)
      job.resumed = record
    } else {
      if invocation.isSet("job") {
        throw invocation.usage("--job needs --resume: it names the job to resume")
      }
      (request, notes) = try begin(invocation, &configuration)
      job = try self.job(request, tally, invocation, configuration)
      if invocation.isSet("dry-run") { job.target = .count }
    }
    let outcome = try JobRunner.run(job, environment: invocation.environment)
    var report = JobReport(job: job, outcome: outcome)
    report.details = [
      .init("start_lsn", .optional(request.start?.lsn.description)),
      .init("start_snapshot", .optional(request.start?.snapshot)),
    ]
    report.notes = notes
    report.note(tally, doubt: "were written after the stream began, and the stream may send them too")
    return report.finish(isJSON: invocation.isSet("json"))
  }

  /// Finds the slot's start, or makes it. A dry run makes none. The configuration then leads to the server of the start.
  private static func begin(
    _ invocation: Invocation, _ configuration: inout Configuration
  ) throws(RelayError) -> (TableRequest, [String]) {
    let mappings = configuration.outboxes
    var request = TableRequest(try EventRequest(invocation, mappings: mappings))
    let log = configuration.log.makeLog()
    let facts = try PostgresSource.inspect(
      settings: configuration.postgres, mappings: mappings, stop: StopSignal())
    let settings = configuration.postgres.on(facts.server)
    configuration.postgres = settings
    let outboxes = request.events.mappings(mappings)
    let acceptsDuplicates = invocation.isSet("accept-duplicates")
    let plan = try BackfillPlan.decide(
      facts, settings: settings, mappings: mappings, outboxes: outboxes, acceptsDuplicates: acceptsDuplicates)
    // What the slot will not send is the same for every table.
    request.tables = (acceptsDuplicates ? facts.reads(outboxes) : facts.backfillReads(outboxes))
      .map(TableRequest.Table.init)
    var notes = joined(request)
    if invocation.isSet("dry-run") {
      request.start = expectedStart(plan, facts)
      if plan == .createSlot {
        notes.append("the slot does not exist yet: all present rows of the tables were counted")
      }
    } else if case .start(let start) = plan {
      request.start = start
    } else {
      let begun = try Interruption.run(log: log) { (stop) throws(RelayError) in
        try PostgresSource.begin(plan, facts: facts, settings: settings, stop: stop, log: log)
      }
      (request.start, request.covers) = (begun.start, begun.covers)
    }
    notes += earlier(request, configuration)
    if facts.slot?.isActive == true {
      notes.append(
        "outboxd run is active: an aggregate's events from before the slot arrive after its newer ones")
    }
    announce(request, outboxes, notes, settings, log)
    return (request, notes)
  }

  private static func announce(
    _ request: TableRequest, _ outboxes: [OutboxMapping], _ notes: [String], _ settings: PostgresSettings,
    _ log: Log
  ) {
    log.notice(
      "backfill", ("slot", settings.slot), ("before", request.start?.lsn.description ?? "now"),
      ("outboxes", outboxes.map(\.qualifiedName).joined(separator: ",")))
    for note in notes { log.notice("backfill", ("note", note)) }
  }

  /// The start that a dry run goes by, which changes nothing on the server. Nil: there is no slot yet.
  private static func expectedStart(_ plan: BackfillPlan, _ facts: ServerFacts) -> SlotStart? {
    switch plan {
    case .start(let start): start
    case .joined: facts.slotStart
    case .before(let place): SlotStart(lsn: place, snapshot: nil)
    case .createSlot: nil
    }
  }

  /// The tables that have a start of their own.
  private static func joined(_ request: TableRequest) -> [String] {
    request.tables.compactMap { table in
      table.starts[table.oid].map { start in
        "\(table.outbox) joined the publication after the slot began"
          + (start.lsn == .zero ? "" : ", after \(start.lsn)") + ": its rows from before that are published"
      }
    }
  }

  /// A backfill of the same rows before this one.
  private static func earlier(_ request: TableRequest, _ configuration: Configuration) -> [String] {
    guard let start = request.start else { return [] }
    guard let store = try? JobStore(settings: configuration.postgres, stop: StopSignal()) else { return [] }
    func newest(_ jobs: [JobRecord]?) -> JobRecord? {
      jobs?.first { job in
        guard !job.isRunning, let earlier = TableRequest(json: job.request), earlier.start == start else {
          return false
        }
        return !Set(earlier.tables.map(\.oid)).isDisjoint(with: request.tables.map(\.oid))
      }
    }
    var notes: [String] = []
    if let job = newest(try? store.finished(command: "backfill")) {
      notes.append(
        "backfill \(job.id) has published \(JobText.grouped(job.events)) of these rows: they will be sent again, with the same id"
      )
    }
    if let job = newest(try? store.unfinished(command: "backfill")) {
      notes.append(
        "backfill \(job.id) was interrupted: this one starts from the beginning. To resume that one: outboxd backfill --resume --job \(job.id)"
      )
    }
    return notes
  }

  private static func job(
    _ request: TableRequest, _ tally: TableTally, _ invocation: Invocation, _ configuration: Configuration
  ) throws(RelayError) -> Job {
    let settings = configuration.postgres
    let reads = try request.reads(configuration.outboxes)
    return Job(
      command: "backfill", verb: "backfilling", configuration: configuration, options: request.options,
      target: request.events.target, rate: request.events.rate, request: request.json,
      resumeCommand: { [events = request.events] in
        JobResumption.command("backfill", $0, invocation, file: events.file, topic: events.topic)
      },
      open: { [range = request.range] (position, stop, log) throws(RelayError) -> any BoundedSource in
        try PostgresSource.openTables(
          range, resume: position, settings: settings, reads: reads, tally: tally, stop: stop, log: log)
      })
  }
}
