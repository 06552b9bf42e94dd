// Owns: the life of a job across connections: open, run to the end, react to what failed, wait, again.
// Must not know: protocol bytes, signals, what is printed.
import KafkaSink
import PostgresSource
import RelayCore
import Synchronization

/// Confined to the relay's thread, which it is made on.
final class JobSession {
  private let job: Job
  private let metrics: RelayMetrics
  private let stop: StopSignal
  private let log: Log
  private let checkpoints: JobCheckpoints

  private var relay: Relay?
  private var originCheck: OriginCheck?
  private var counting: CountingSink?
  private var position: String?
  private var hasBegun = false
  private var fileOpening: JobFile.Opening
  /// The mark beside the file is this job's own.
  private(set) var isMarked = false
  private var sourceBackOff = BackOff()
  private var sinkBackOff = BackOff(first: 500, lasting: 120_000)
  private let batchLimit = BatchLimit()

  /// A transaction that is being read when a stop is requested is read on for half of this at most, in milliseconds.
  private static let readingLimit = 4_000

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
  }

  /// Relays to the source's end. What ended it early, `interrupted` for a stop; nil: all of it is acknowledged.
  func run() -> RelayError? {
    let failure = relayToEnd()
    // The sink's last counts are published when it goes.
    relay = nil
    checkpoints.file = nil
    return failure
  }

  /// What a dry run has counted.
  var counts: EventCounts? { counting?.counts }

  private func relayToEnd() -> RelayError? {
    while !stop.isRequested {
      do throws(RelayError) {
        return try stream() ? nil : Self.interrupted
      } catch {
        if stop.isRequested {
          if error.kind != .interrupted { log.error("failed while stopping", error, level: .warning) }
          break
        }
        if let fatal = react(to: error) { return fatal }
      }
    }
    _ = finish(nil)
    return Self.interrupted
  }

  private static let interrupted = RelayError(.interrupted, "interrupted")

  /// One connection to the source, from its opening to its end. True where that is the end of the job.
  private func stream() throws(RelayError) -> Bool {
    let source = try job.open(position, stop, log)
    let relay = try prepare(for: source)
    if hasBegun { metrics.sourceReconnects.wrappingAdd(1, ordering: .relaxed) }
    hasBegun = true
    sourceBackOff.succeeded()
    var isAtEnd = false
    do throws(RelayError) {
      let limit = min(job.configuration.relay.drainTimeout, Self.readingLimit)
      try relay.run(source, drainMilliseconds: limit)
      isAtEnd = source.isAtEnd && !stop.isRequested
      while !stop.isRequested, relay.outstanding > 0 {
        try relay.idle(until: MonotonicTime.now().advanced(milliseconds: 20))
      }
    } catch  where error.kind.reaction == .applyPolicy || error.kind == .tableUnsuitable {
      // The source itself is sound: what is acknowledged before the row is kept.
      _ = finish(source)
      throw error
    }
    return finish(source) && isAtEnd
  }

  private func prepare(for source: any BoundedSource) throws(RelayError) -> Relay {
    let relay =
      self.relay
      ?? Relay(
        mappings: job.configuration.outboxes, database: source.database, store: checkpoints, metrics: metrics,
        stop: stop, log: log, options: job.options)
    // The places of a source without positions count from its opening.
    if self.relay != nil, !job.options.hasPositions { relay.reset(to: .zero) }
    self.relay = relay
    checkpoints.begin(source, at: position)
    if !relay.hasSink {
      relay.use(try makeSink())
      sinkBackOff.succeeded()
    }
    if job.target == .kafka, job.configuration.relay.checkOrigin, originCheck?.isDone != true {
      let check = OriginWatch.check(job.configuration, walEnd: .zero, metrics: metrics, stop: stop, log: log)
      originCheck = check
      relay.examine(with: check)
    }
    return relay
  }

  private func makeSink() throws(RelayError) -> any RecordSink {
    let sink: any RecordSink
    switch job.target {
    case .kafka:
      var settings = job.configuration.kafka
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
      return counting
    }
    return job.rate.map { RateLimitedSink(sink, rate: $0) } ?? sink
  }

  /// Drains, and hands over the last position. True if nothing is left in flight.
  private func finish(_ source: (any BoundedSource)?) -> Bool {
    guard let relay else { return true }
    let start = min(MonotonicTime.now(), stop.requestTime)
    return relay.finish(
      source, deadline: start.advanced(milliseconds: job.configuration.relay.drainTimeout))
  }

  // MARK: Reactions

  /// Waits, and makes ready for another try. The error itself where it ends the job.
  private func react(to error: RelayError) -> RelayError? {
    // Before the first row nothing is lost by giving up, and a person waits.
    switch error.kind {
    case .sourceUnavailable where hasBegun && error.wasEndedByServer:
      if let shutdown = shutdown() {
        _ = finish(nil)
        return shutdown
      }
      reconnect(error)
    // After a promotion a person decides: the places of the job may not be those of the new primary.
    case .sourceUnavailable where hasBegun && !error.invalidatesStart, .slotActive where hasBegun:
      reconnect(error)
    case .sinkFailed: rebuildSink(error)
    default:
      _ = finish(nil)
      return error
    }
    return nil
  }

  /// A shutdown was asked for by a person, who may want to know of the job, and it may be a long time until Postgres is
  /// back: the job ends, and can be resumed. From a crash, and from a network that fails, it comes back by itself.
  /// Nil: Postgres takes another connection, or refuses it for a reason of its own.
  private func shutdown() -> RelayError? {
    do throws(RelayError) {
      try job.reach(job.configuration.postgres, stop)
      return nil
    } catch {
      guard error.kind == .sourceUnavailable, error.meansServerEnds || error.code == nil else { return nil }
      return RelayError(
        .sourceUnavailable, "Postgres was shut down: \(error.message)", code: error.code)
    }
  }

  private func reconnect(_ error: RelayError) {
    log.error("the connection to Postgres was lost; reconnecting", error, level: .warning)
    wait(milliseconds: sourceBackOff.delay())
    goOnAtCheckpoint()
  }

  private func rebuildSink(_ error: RelayError) {
    dropSink(error)
    if !error.isRemedied { wait(milliseconds: sinkBackOff.delay()) }
    goOnAtCheckpoint()
  }

  private func dropSink(_ error: RelayError) {
    metrics.producerRebuilds.wrappingAdd(1, ordering: .relaxed)
    log.error("the producer is built anew; unacknowledged events are sent again", error, level: .warning)
    relay?.dropSink()
  }

  /// The next source begins after what is acknowledged. One whose places mean nothing to it must not be opened
  /// while something of this one is in flight.
  private func goOnAtCheckpoint() {
    guard let relay else { return }
    if !job.options.hasPositions {
      while relay.hasSink, relay.outstanding > 0, !stop.isRequested { wait(milliseconds: 20) }
    }
    position = checkpoints.position(after: relay.checkpoint)
  }

  /// Waits, and looks after deliveries meanwhile.
  private func wait(milliseconds: Int) {
    let deadline = MonotonicTime.now().advanced(milliseconds: milliseconds)
    if let relay, relay.hasSink {
      do throws(RelayError) {
        return try relay.idle(until: deadline)
      } catch {
        dropSink(error)
      }
    }
    stop.wait(milliseconds: MonotonicTime.now().milliseconds(until: deadline, limit: milliseconds))
  }
}
