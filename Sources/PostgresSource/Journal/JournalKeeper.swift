// Owns: the hand-over between the relay's thread and the thread that writes the journal and watches the
// database.
// Must not know: SQL; `DatabaseWatch` runs it on the other side.
import CSystem
import Glibc
public import RelayCore
import Synchronization

/// The journal as the relay sees it: storing costs one atomic write, and the database is a matter of another
/// thread. One object serves all sessions of a process.
///
/// `store` and `finish` belong to the relay's thread, `start` and `stop` to the one that owns the process.
public final class JournalKeeper: CheckpointStore, Sendable {
  let settings: PostgresSettings
  let mappings: [OutboxMapping]
  let run: RunEntry
  let log: Log
  let metrics: RelayMetrics
  /// Milliseconds between two checks of the publication.
  let publicationInterval: Int
  /// How often the last checkpoint is tried to be written: the one failure may be a connection that was lost.
  private static let failureLimit: UInt64 = 2
  /// Milliseconds between two checks of the anchor.
  let anchorInterval: Int

  /// Ends the thread.
  let end = StopSignal()
  private let isInUse = Atomic<Bool>(false)
  private let wanted = Atomic<UInt64>(0)
  private let durable = Atomic<UInt64>(0)
  private let isUrgent = Atomic<Bool>(false)
  /// How often a check of the publication was requested, and up to which request it has been made.
  let looksWanted = Atomic<UInt64>(0)
  private let looksMade = Atomic<UInt64>(0)
  private let hasFault = Atomic<Bool>(false)
  /// How many sessions have begun.
  private let sessions = Atomic<UInt64>(0)
  /// How often the thread could not do what it had to.
  private let failures = Atomic<UInt64>(0)
  private let shared = Mutex(Shared())
  /// Wakes the thread.
  let wakeDescriptor: Int32
  /// Wakes whoever waits for a checkpoint to be durable.
  private let doneDescriptor: Int32
  /// Readable once a check of the publication has been made.
  let lookDescriptor: Int32

  private struct Shared {
    var session: Session?
    var fault: RelayError?
    var threads: [RelayThread] = []
    var anchorDropTime: MonotonicTime?
    var settling: LSN?
  }

  /// What the thread must know of the session that runs.
  struct Session: Equatable {
    var systemIdentifier: UInt64
    var timeline: UInt32
    /// What the other connections of the session must lead to.
    var server: ServerIdentity
    var publication: PublicationRecord?
    /// The publication was found whole when the WAL had got here.
    var seenAt: LSN
    /// The server's process that streams.
    var backend: Int?
  }

  /// - Parameter outboxes: everything that events are made by, as text.
  public convenience init(
    settings: PostgresSettings, mappings: [OutboxMapping], outboxes: String, log: Log, metrics: RelayMetrics
  ) {
    self.init(
      settings: settings, mappings: mappings, outboxes: outboxes, log: log, metrics: metrics,
      publicationInterval: 10_000)
  }

  init(
    settings: PostgresSettings, mappings: [OutboxMapping], outboxes: String = "", log: Log,
    metrics: RelayMetrics, publicationInterval: Int, anchorInterval: Int = 5_000
  ) {
    self.publicationInterval = publicationInterval
    self.anchorInterval = anchorInterval
    self.settings = settings
    self.mappings = mappings
    run = RunEntry(outboxes: outboxes)
    self.log = log
    self.metrics = metrics
    wakeDescriptor = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
    doneDescriptor = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
    lookDescriptor = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
  }

  deinit {
    close(wakeDescriptor)
    close(doneDescriptor)
    close(lookDescriptor)
  }

  /// Starts the thread, and where a replay window is wanted one more. They connect by themselves, and again
  /// whenever the connection is lost.
  /// - Throws: `failed` where the system gives no thread.
  public func start() throws(RelayError) {
    let thread = try RelayThread(name: "outboxd-journal") { [self] in
      var watch = DatabaseWatch(self)
      watch.run()
    }
    shared.withLock { $0.threads.append(thread) }
    guard let window = settings.replayWindow else { return }
    let anchorThread = try RelayThread(name: "outboxd-anchor") { [self] in
      var anchor = ReplayAnchor(self, window: window)
      anchor.run()
    }
    shared.withLock { $0.threads.append(anchorThread) }
  }

  /// Ends the threads and waits for them: for the time of one statement at most. For good.
  public func stop() {
    end.request()
    let threads = shared.withLock { shared in
      defer { shared.threads = [] }
      return shared.threads
    }
    threads.forEach { $0.join() }
  }

  /// A session begins at `checkpoint`, which the journal, where it is in use, already has.
  func begin(_ checkpoint: Checkpoint, _ facts: ServerFacts, backend: Int? = nil) {
    let fault: RelayError? = shared.withLock { shared in
      var former = shared.session
      if former?.systemIdentifier != checkpoint.systemIdentifier { former = nil }
      shared.session = Session(
        systemIdentifier: checkpoint.systemIdentifier, timeline: checkpoint.timeline, server: facts.server,
        publication: facts.publicationRecord != nil
          ? facts.publicationRecord(at: checkpoint.lsn)
          : facts.publication?.record(after: former?.publication, passed: checkpoint.lsn),
        seenAt: facts.publication?.seenAt ?? .zero, backend: backend)
      shared.fault = former.flatMap { former in
        // On another timeline the WAL may end before the place where it was seen.
        let since =
          former.timeline == checkpoint.timeline ? former.seenAt : min(former.seenAt, checkpoint.lsn)
        return facts.publication.flatMap {
          former.change(to: $0, of: settings.publication)?.fault(since: since)
        }
      }
      isInUse.store(facts.journal.isInUse, ordering: .releasing)
      durable.store(checkpoint.lsn.rawValue, ordering: .releasing)
      wanted.store(checkpoint.lsn.rawValue, ordering: .releasing)
      return shared.fault
    }
    hasFault.store(fault != nil, ordering: .releasing)
    // From here on a reading is due.
    if metrics.slot == nil { metrics.slot = SlotReading() }
    if settings.replayWindow != nil, metrics.anchor == nil { metrics.anchor = AnchorReading() }
    sessions.wrappingAdd(1, ordering: .releasing)
    eventfd_write(wakeDescriptor, 1)
  }

  /// False where checkpoints are kept by the slot alone.
  public var keepsJournal: Bool { isInUse.load(ordering: .acquiring) }

  /// Requests a check of the publication, now. `hasLooked` tells when it has been made; a fault that it found is then
  /// taken by `takeFault`.
  func askForLook() -> UInt64 {
    let look = looksWanted.wrappingAdd(1, ordering: .acquiringAndReleasing).newValue
    eventfd_write(wakeDescriptor, 1)
    return look
  }

  func hasLooked(_ look: UInt64) -> Bool {
    drain(lookDescriptor)
    return looksMade.load(ordering: .acquiring) >= look
  }

  /// The fault that the watch on the database has found since the session began; once.
  /// `ReplicationStream.report` asks for it at each call, so that the loop needs no hook of its own.
  public func takeFault() -> RelayError? {
    guard hasFault.load(ordering: .acquiring) else { return nil }
    return shared.withLock { shared in
      hasFault.store(false, ordering: .releasing)
      defer { shared.fault = nil }
      return shared.fault
    }
  }
}

// The anchor.
extension JournalKeeper {
  /// When the anchor was given up last, or could not be created.
  var anchorDropTime: MonotonicTime? {
    get { shared.withLock { $0.anchorDropTime } }
    set { shared.withLock { $0.anchorDropTime = newValue } }
  }

  /// Milliseconds since then, as far as they count.
  var sinceAnchorDrop: Int? {
    anchorDropTime?.milliseconds(until: .now(), limit: AnchorDecision.createDelay)
  }
}

// The relay's side.
extension JournalKeeper {
  /// Without a journal everything counts as durable at once.
  public func store(_ checkpoint: LSN) -> LSN {
    guard isInUse.load(ordering: .relaxed) else { return checkpoint }
    wanted.store(checkpoint.rawValue, ordering: .releasing)
    return LSN(durable.load(ordering: .acquiring))
  }

  public func finish(_ checkpoint: LSN, deadline: MonotonicTime) -> LSN {
    guard isInUse.load(ordering: .relaxed) else { return checkpoint }
    let failuresBefore = failures.load(ordering: .acquiring)
    wanted.store(checkpoint.rawValue, ordering: .releasing)
    isUrgent.store(true, ordering: .releasing)
    eventfd_write(wakeDescriptor, 1)
    while durable.load(ordering: .acquiring) < checkpoint.rawValue {
      metrics.turned()
      let left = MonotonicTime.now().milliseconds(until: deadline, limit: 1000)
      let isHopeless = failures.load(ordering: .acquiring) &- failuresBefore >= Self.failureLimit
      if left == 0 || isHopeless {
        log.warning(
          "the last checkpoint was not written to the journal: the next start sends events after the journal's checkpoint "
            + "again, unless it finds them in Kafka", ("slot", settings.slot),
          ("checkpoint", "\(checkpoint)"), ("journaled", "\(durableLSN)"))
        break
      }
      var entry = pollfd(fd: doneDescriptor, events: Int16(POLLIN), revents: 0)
      _ = poll(&entry, 1, Int32(left))
      drain(doneDescriptor)
    }
    isUrgent.store(false, ordering: .releasing)
    return LSN(durable.load(ordering: .acquiring))
  }
}

// The end of the process.
extension JournalKeeper {
  /// The process sends nothing more, and has sent nothing beyond `checkpoint`. Waits until the journal says so, where it
  /// is in use; without it the next process checks what Kafka has.
  public func settle(at checkpoint: LSN, deadline: MonotonicTime) {
    guard keepsJournal, durableLSN == checkpoint else { return }
    let failuresBefore = failures.load(ordering: .acquiring)
    shared.withLock { $0.settling = checkpoint }
    eventfd_write(wakeDescriptor, 1)
    while settling != nil, failures.load(ordering: .acquiring) == failuresBefore {
      let left = MonotonicTime.now().milliseconds(until: deadline, limit: 1000)
      if left == 0 { return }
      var entry = pollfd(fd: doneDescriptor, events: Int16(POLLIN), revents: 0)
      _ = poll(&entry, 1, Int32(left))
      drain(doneDescriptor)
    }
  }

  /// The place that is to be written as settled.
  var settling: LSN? { shared.withLock { $0.settling } }

  func settled() {
    shared.withLock { $0.settling = nil }
    eventfd_write(doneDescriptor, 1)
  }
}

// The thread's side.
extension JournalKeeper {
  var session: Session? { shared.withLock { $0.session } }
  var sessionCount: UInt64 { sessions.load(ordering: .acquiring) }

  /// The publication was found whole: later changes count from here.
  func note(_ record: PublicationRecord, seenAt: LSN, in session: Session) {
    shared.withLock { shared in
      guard shared.session == session else { return }
      shared.session?.publication = record
      shared.session?.seenAt = seenAt
    }
  }

  /// What is to be written, nil when there is nothing new.
  var pending: LSN? {
    guard isInUse.load(ordering: .acquiring) else { return nil }
    let wanted = wanted.load(ordering: .acquiring)
    return wanted > durable.load(ordering: .acquiring) ? LSN(wanted) : nil
  }

  var durableLSN: LSN { LSN(durable.load(ordering: .acquiring)) }
  var someoneWaits: Bool { isUrgent.load(ordering: .acquiring) }

  /// The newest check that was requested; nil where it has been made.
  var wantedLook: UInt64? {
    let wanted = looksWanted.load(ordering: .acquiring)
    return wanted > looksMade.load(ordering: .acquiring) ? wanted : nil
  }

  func looked(_ look: UInt64) {
    looksMade.store(look, ordering: .releasing)
    eventfd_write(lookDescriptor, 1)
  }

  /// Of a session that is over it means nothing: the next one may be on another server.
  func written(_ lsn: LSN, in session: Session) {
    let isCurrent = shared.withLock { shared in
      guard shared.session?.server == session.server else { return false }
      durable.store(lsn.rawValue, ordering: .releasing)
      return true
    }
    guard isCurrent else { return }
    eventfd_write(doneDescriptor, 1)
    metrics.journaledLSN.store(lsn.rawValue, ordering: .relaxed)
    metrics.journalWrites.add(1, ordering: .relaxed)
  }

  func post(_ fault: RelayError) {
    shared.withLock { $0.fault = fault }
    hasFault.store(true, ordering: .releasing)
  }

  /// The journal could not be written, or not even be reached.
  func failed() {
    failures.wrappingAdd(1, ordering: .releasing)
    eventfd_write(doneDescriptor, 1)
  }

  func drainWake() { drain(wakeDescriptor) }

  private func drain(_ descriptor: Int32) {
    var count: eventfd_t = 0
    eventfd_read(descriptor, &count)
  }
}
