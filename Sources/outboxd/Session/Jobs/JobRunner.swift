// Owns: the process of a job: threads, signals, progress, the outcome. START HERE for replay, backfill, recover.
// Must not know: what is relayed, SQL.
import Glibc
import PostgresSource
import RelayCore
import Synchronization

/// Main thread: signals and progress. Relay's thread: everything on the way of a row. Keeper's thread: `outboxd.job`.
enum JobRunner {
  private final class Result: Sendable {
    let value = Mutex<(failure: RelayError?, counts: EventCounts?, isMarked: Bool)>((nil, nil, false))
  }

  /// Runs the job to its end, a signal or a failure. No other thread may be running, and signals are blocked from
  /// here on.
  /// - Throws: where the job could not begin. What ended it later stands in the outcome.
  static func run(_ job: Job, environment: [String: String]) throws(RelayError) -> JobOutcome {
    let log = job.configuration.log.makeLog()
    let signals = try SignalWatch()
    let (metrics, meter) = (RelayMetrics(), JobMeter())
    let (stop, finished) = (StopSignal(), StopSignal())
    let (keeper, id) = try enter(job, log)
    let result = Result()
    let start = MonotonicTime.now()
    let thread = try RelayThread(name: "relay") {
      let use = JobUse(
        job: job, id: id, keeper: keeper, metrics: metrics, meter: meter, stop: stop, log: log)
      let end = Session(use, metrics: metrics, stop: stop, log: log).run()
      result.value.withLock { $0 = (end.failure, use.counts, use.isMarked) }
      finished.request()
    }
    var display = JobDisplay(
      job: job, metrics: metrics, meter: meter, log: log, start: start, environment: environment)
    signals.serve(
      stop: stop, finished: finished, log: log,
      lastWords:
        "ended immediately by a second signal; events since the last stored position will be sent again",
      every: JobDisplay.interval, tick: { display.show() })
    thread.join()
    display.clear()
    signals.end()
    let (failure, counts, isMarked) = result.value.withLock { $0 }
    var outcome = JobOutcome(
      id: id, failure: failure, sentBefore: job.resumed?.events ?? 0, isResumed: job.resumed != nil,
      counts: counts)
    outcome.note(
      metrics, milliseconds: Int((MonotonicTime.now().nanoseconds - start.nanoseconds) / 1_000_000))
    close(keeper, job, &outcome, isMarked: isMarked, requestTime: stop.requestTime)
    return outcome
  }

  /// Enters the job in `outboxd.job`, where an interrupted one could be resumed.
  private static func enter(_ job: Job, _ log: Log) throws(RelayError) -> (keeper: JobKeeper?, id: Int64?) {
    guard job.target.isResumable, job.resumeCommand != nil else { return (nil, nil) }
    let keeper = JobKeeper(settings: job.configuration.postgres, log: log)
    let id = try keeper.start(job)
    return (id == nil ? nil : keeper, id)
  }

  /// Stores the last position, removes the mark of a job that is done, and adds to a failure what is left to do.
  private static func close(
    _ keeper: JobKeeper?, _ job: Job, _ outcome: inout JobOutcome, isMarked: Bool, requestTime: MonotonicTime
  ) {
    // A server that is away does not come back for the job's last position.
    let drainTimeout = outcome.failure?.kind == .sourceUnavailable ? 0 : job.configuration.relay.drainTimeout
    let deadline = min(MonotonicTime.now(), requestTime).advanced(milliseconds: drainTimeout)
    let hasBegun = outcome.isResumed || outcome.sent > 0 || keeper?.position != nil
    let isDone = keeper?.finish(
      isDone: outcome.isComplete || !hasBegun,
      deadline: max(deadline, MonotonicTime.now().advanced(milliseconds: 3_000)))
    // A job that still stands as interrupted goes on only where the mark is.
    if isDone == true, isMarked, case .file(let path) = job.target {
      unlink(JobMark.path(of: path))
    }
    if let failure = outcome.failure {
      outcome.failure = remedied(failure, job, hasBegun ? outcome.id : nil, outcome)
    }
  }

  /// A place to go on from lies between transactions, and the last one may have been sent in part.
  private static func again(_ outcome: JobOutcome) -> String {
    outcome.sent <= outcome.settled
      ? ""
      : "Up to \(JobText.grouped(outcome.sent - outcome.settled)) events will be sent again: their transaction was not sent as a "
        + "whole. "
  }

  /// The failure with what is left to do.
  private static func remedied(
    _ failure: RelayError, _ job: Job, _ id: Int64?, _ outcome: JobOutcome
  ) -> RelayError {
    var failure = failure
    let sent = outcome.sentBefore &+ outcome.sent
    if failure.kind == .interrupted {
      failure.message = "interrupted after \(JobText.grouped(sent)) events"
    }
    // What never began leaves nothing to say beside its own remedy, WAL that is gone does not come back, and the same
    // command line would be refused again.
    if (id == nil && sent == 0 && failure.remedy != nil)
      || [.replayUnavailable, .usage].contains(failure.kind)
    {
      return failure
    }
    let way =
      id.flatMap { job.resumeCommand?($0) }.map { again(outcome) + "To resume it: \($0)" }
      ?? "It cannot be resumed: start it again."
    failure.remedy = (failure.remedy.map { $0 + " " } ?? "") + way
    return failure
  }
}
