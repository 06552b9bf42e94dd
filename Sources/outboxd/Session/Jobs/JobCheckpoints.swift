// Owns: the way from the loop's checkpoint to the position of a job, and what its progress is.
// Must not know: SQL, threads beyond the hand-over.
import RelayCore
import Synchronization

/// The checkpoint store of a job: about once a second it says from where the source goes on, once everything before
/// is where it belongs. Confined to the relay's thread.
final class JobCheckpoints: CheckpointStore {
  private let keeper: JobKeeper?
  private let metrics: RelayMetrics
  private let meter: JobMeter
  private let sentBefore: UInt64
  private var source: (any BoundedSource)?
  /// Where `source` was opened.
  private var beginning: String?
  private var storedCheckpoint = LSN.zero
  private var dueTime = MonotonicTime(nanoseconds: 0)
  /// The file that must be on the disk before a position is stored.
  var file: JSONLinesSink?

  private static let interval = 1_000

  init(keeper: JobKeeper?, metrics: RelayMetrics, meter: JobMeter, sentBefore: UInt64) {
    self.keeper = keeper
    self.metrics = metrics
    self.meter = meter
    self.sentBefore = sentBefore
  }

  /// The source that checkpoints now belong to.
  func begin(_ source: any BoundedSource, at position: String?) {
    self.source = source
    beginning = position
    storedCheckpoint = .zero
  }

  /// Where to open the source again so that everything after `checkpoint` comes.
  func position(after checkpoint: LSN) -> String? { source?.position(after: checkpoint) ?? beginning }

  /// One for all sources: what the sink acknowledges is the job's.
  let session = CheckpointSession()

  func store(_ checkpoint: LSN, in session: CheckpointSession) -> JournalAcknowledgement {
    if let source {
      let progress = source.progress
      meter.done.store(progress.done, ordering: .relaxed)
      meter.total.store(progress.total, ordering: .relaxed)
    }
    if checkpoint > storedCheckpoint, MonotonicTime.now() >= dueTime { handOver(checkpoint) }
    return JournalAcknowledgement(checkpoint, in: session)
  }

  func finish(
    _ checkpoint: LSN, in session: CheckpointSession, deadline: MonotonicTime
  ) -> JournalAcknowledgement {
    handOver(checkpoint)
    return JournalAcknowledgement(checkpoint, in: session)
  }

  private func handOver(_ checkpoint: LSN) {
    dueTime = MonotonicTime.now().advanced(milliseconds: Self.interval)
    guard let keeper, file?.synchronize() ?? true else { return }
    storedCheckpoint = checkpoint
    keeper.store(
      position: position(after: checkpoint),
      events: sentBefore &+ metrics.eventsSettled.load(ordering: .relaxed))
  }
}
