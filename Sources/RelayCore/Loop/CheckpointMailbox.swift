// Owns: the hand-over of checkpoints from the relay's thread to the thread that writes the journal.
// Must not know: SQL, what a server is.
import Synchronization

/// The newest checkpoint for the writer, and the newest acknowledgement for the relay: storing costs one atomic write.
/// One object serves all sessions of a process.
///
/// `begin`, `store`, `finish` and `settle` belong to the relay's thread, the rest to the writer's.
public final class CheckpointMailbox: CheckpointStore, Sendable {
  /// How often the writer may fail before the last checkpoint is given up: one failure may be a connection that was lost.
  private static let failureLimit: UInt64 = 2

  private let slot: String
  private let log: Log
  private let metrics: RelayMetrics
  /// Wakes the writer.
  private let wake: WakeSignal
  /// Wakes the relay's thread where that waits for the writer.
  private let done = WakeSignal()

  // Of the current session. `begin` changes all of them under the lock, under which the writer compares the session.
  private let number = Atomic<UInt64>(0)
  private let isInUse = Atomic<Bool>(false)
  private let wanted = Atomic<UInt64>(0)
  private let acknowledged = Atomic<UInt64>(0)
  private let shared = Mutex(Shared())

  private let urgent = Atomic<Bool>(false)
  private let failures = Atomic<UInt64>(0)

  private struct Shared {
    /// The place that the writer is to write as the end of the process.
    var settling: LSN?
  }

  /// - Parameters:
  ///   - slot: for messages.
  ///   - wake: signalled where the writer is waited for.
  public init(slot: String, wake: WakeSignal, log: Log, metrics: RelayMetrics) {
    self.slot = slot
    self.wake = wake
    self.log = log
    self.metrics = metrics
  }

  /// False where checkpoints are kept by the slot alone.
  public var keepsJournal: Bool { isInUse.load(ordering: .acquiring) }

  public var session: CheckpointSession { CheckpointSession(number.load(ordering: .acquiring)) }
}

// The relay's side.
extension CheckpointMailbox {
  /// A session begins at `checkpoint`, which its journal, where there is one, already has. What the former session's
  /// writer still says is refused from here on.
  @discardableResult
  public func begin(_ checkpoint: LSN, keepsJournal: Bool) -> CheckpointSession {
    shared.withLock { shared in
      shared.settling = nil
      isInUse.store(keepsJournal, ordering: .releasing)
      acknowledged.store(checkpoint.rawValue, ordering: .releasing)
      wanted.store(checkpoint.rawValue, ordering: .releasing)
      return CheckpointSession(number.wrappingAdd(1, ordering: .releasing).newValue)
    }
  }

  /// Hands over the newest checkpoint of `session`, and returns the newest acknowledgement. A checkpoint of another
  /// session than the current one is not taken. Without a journal a checkpoint counts as written. Never blocks.
  public func store(_ checkpoint: LSN, in session: CheckpointSession) -> JournalAcknowledgement {
    if session == self.session {
      guard isInUse.load(ordering: .relaxed) else { return JournalAcknowledgement(checkpoint, in: session) }
      wanted.store(checkpoint.rawValue, ordering: .releasing)
    }
    return acknowledgement
  }

  /// Hands over the last checkpoint of `session`, and waits until it is written, the writer has failed twice, or
  /// `deadline` has come.
  public func finish(
    _ checkpoint: LSN, in session: CheckpointSession, deadline: MonotonicTime
  ) -> JournalAcknowledgement {
    let failuresBefore = failures.load(ordering: .acquiring)
    let first = store(checkpoint, in: session)
    guard first.session == session, first.lsn < checkpoint else { return first }
    urgent.store(true, ordering: .releasing)
    defer { urgent.store(false, ordering: .releasing) }
    wake.signal()
    while acknowledgement.lsn < checkpoint {
      metrics.turned()
      let left = MonotonicTime.now().milliseconds(until: deadline, limit: 1000)
      let isHopeless = failures.load(ordering: .acquiring) &- failuresBefore >= Self.failureLimit
      if left == 0 || isHopeless {
        log.warning(
          "the last checkpoint was not written to the journal: the next start sends events after the journal's checkpoint "
            + "again, unless it finds them in Kafka", ("slot", slot),
          ("checkpoint", "\(checkpoint)"), ("journaled", "\(acknowledgement.lsn)"))
        break
      }
      done.wait(milliseconds: left)
    }
    return acknowledgement
  }

  /// The process sends nothing more, and has sent nothing beyond `checkpoint`. Waits until the journal says so, where it
  /// is in use; without it the next process looks at what Kafka has.
  public func settle(at checkpoint: LSN, deadline: MonotonicTime) {
    guard keepsJournal, acknowledgement.lsn == checkpoint else { return }
    let failuresBefore = failures.load(ordering: .acquiring)
    shared.withLock { $0.settling = checkpoint }
    wake.signal()
    while shared.withLock({ $0.settling != nil }), failures.load(ordering: .acquiring) == failuresBefore {
      let left = MonotonicTime.now().milliseconds(until: deadline, limit: 1000)
      if left == 0 { return }
      done.wait(milliseconds: left)
    }
  }

  private var acknowledgement: JournalAcknowledgement {
    JournalAcknowledgement(LSN(acknowledged.load(ordering: .acquiring)), in: session)
  }
}

// The writer's side.
extension CheckpointMailbox {
  /// What the writer of `session` is to write. Nil: there is nothing new, or the session is over.
  public func pending(in session: CheckpointSession) -> LSN? {
    shared.withLock { _ in
      guard session == self.session, isInUse.load(ordering: .acquiring) else { return nil }
      let wanted = wanted.load(ordering: .acquiring)
      return wanted > acknowledged.load(ordering: .acquiring) ? LSN(wanted) : nil
    }
  }

  /// The newest checkpoint of `session` that the journal has. Nil: the session is over.
  public func journaled(in session: CheckpointSession) -> LSN? {
    shared.withLock { _ in session == self.session ? acknowledgement.lsn : nil }
  }

  /// The newest checkpoint that the journal has.
  public var journaled: LSN { acknowledgement.lsn }

  /// Somebody waits for what is pending.
  public var isUrgent: Bool { urgent.load(ordering: .acquiring) }

  /// The journal has it. Refused where the session is over.
  public func written(_ acknowledgement: JournalAcknowledgement) {
    let isCurrent = shared.withLock { _ in
      guard acknowledgement.session == session else { return false }
      acknowledged.store(acknowledgement.lsn.rawValue, ordering: .releasing)
      return true
    }
    guard isCurrent else { return }
    metrics.journaledLSN.store(acknowledgement.lsn.rawValue, ordering: .relaxed)
    metrics.journalWrites.add(1, ordering: .relaxed)
    done.signal()
  }

  /// The journal could not be written, or not even be reached.
  public func failed() {
    failures.wrappingAdd(1, ordering: .releasing)
    done.signal()
  }

  /// The place that the writer of `session` is to write as settled. Nil: there is none, or the session is over.
  public func settling(in session: CheckpointSession) -> LSN? {
    shared.withLock { session == self.session ? $0.settling : nil }
  }

  public func settled() {
    shared.withLock { $0.settling = nil }
    done.signal()
  }
}
