// Owns: a source with an end as a session's source: from which position it is opened again, and where its records go.
// Must not know: signals, what is printed, how a failure is reacted to.
import KafkaSink
import PostgresSource
import RelayCore

/// What replay, backfill and recover are. Confined to the relay's thread.
final class JobUse: SessionUse {
  /// Milliseconds.
  private static let longestReading = 4_000

  private let job: Job
  private let metrics: RelayMetrics
  private let stop: StopSignal
  private let log: Log
  private let checkpoints: JobCheckpoints
  private let origin: OriginWatch
  private let batchLimit = BatchLimit()
  private var position: String?
  private var fileOpening: JobFile.Opening
  private var counting: CountingSink?
  /// The mark beside the file is this job's own.
  private(set) var isMarked = false

  var configuration: Configuration { job.configuration }
  var options: RelayOptions {
    var options = job.options
    // What is only counted need not wait.
    if job.target != .count { options.rate = job.rate }
    return options
  }
  let reactions = ReactionTable.job
  var store: any CheckpointStore { checkpoints }
  var readingLimit: Int { min(configuration.relay.drainTimeout, Self.longestReading) }

  /// What a dry run has counted.
  var counts: EventCounts? { counting?.counts }

  /// - Parameter id: the number in `outboxd.job`; nil for a job that is not kept there.
  init(
    job: Job, id: Int64?, keeper: JobKeeper?, metrics: RelayMetrics, meter: JobMeter, stop: StopSignal,
    log: Log
  ) {
    self.job = job
    self.metrics = metrics
    self.stop = stop
    self.log = log
    position = job.resumed?.position
    let postgres = job.configuration.postgres
    let mark = id.map {
      JobMark(
        job: $0, slot: postgres.slot, systemIdentifier: postgres.server?.systemIdentifier ?? 0)
    }
    fileOpening =
      job.resumed.map { $0.position == nil ? .appendOrCreate(mark) : .append(mark) } ?? .create(mark)
    checkpoints = JobCheckpoints(
      keeper: keeper, metrics: metrics, meter: meter, sentBefore: job.resumed?.events ?? 0)
    origin = OriginWatch(job.configuration, metrics: metrics, stop: stop, log: log)
  }

  /// Behind everything that is acknowledged.
  func open(after relay: Relay?) throws(RelayError) -> SessionSource {
    if let relay { position = checkpoints.position(after: relay.checkpoint) }
    let source = try job.open(position, stop, log)
    checkpoints.begin(source, at: position)
    // The places of a source without positions count from its opening.
    return SessionSource(
      changes: source, database: source.database, start: options.hasPositions ? nil : .zero)
  }

  func examine(_ relay: Relay) {
    if job.target == .kafka { origin.examine(relay, server: configuration.postgres.server, walEnd: .zero) }
  }

  func makeSink() throws(RelayError) -> any RecordSink {
    let sink: any RecordSink
    switch job.target {
    case .kafka:
      var settings = configuration.kafka
      if settings.properties["client.id"] == nil, settings.propertyFiles["client.id"] == nil {
        settings.properties["client.id"] = "outboxd-\(job.command)"
      }
      sink = try KafkaSink(settings: settings, metrics: metrics, log: log, batchLimit: batchLimit)
    case .file(let path):
      let file = try JSONLinesSink(path: path, fileOpening, metrics: metrics)
      fileOpening = .append(fileOpening.mark)
      isMarked = fileOpening.mark != nil
      checkpoints.file = file
      sink = file
    case .standardOutput:
      sink = try JSONLinesSink(metrics: metrics)
    case .count:
      let counting = try CountingSink()
      self.counting = counting
      sink = counting
    }
    return sink
  }

  /// A shutdown was asked for by a person, who may want to know of the job, and it may be a long time until Postgres is
  /// back: the job ends, and can be resumed. From a crash, and from a network that fails, it comes back by itself. Nil
  /// also where Postgres takes another connection, or refuses it for a reason of its own.
  func sourceLost(_ error: RelayError, _ relay: Relay?) -> RelayError? {
    guard error.kind == .sourceUnavailable, error.wasEndedByServer else { return nil }
    do throws(RelayError) {
      try job.reach(configuration.postgres, stop)
      return nil
    } catch {
      guard error.kind == .sourceUnavailable, error.meansServerEnds || error.code == nil else { return nil }
      return RelayError(
        .sourceUnavailable, "Postgres was shut down: \(error.message)", code: error.code)
    }
  }

  func finished(_ relay: Relay, isDrained: Bool, deadline: MonotonicTime) {}

  func explained(_ error: RelayError, isOfRow: Bool) -> RelayError { error }
}
