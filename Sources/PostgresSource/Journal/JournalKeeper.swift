// Owns: the threads that work on the database beside the stream, and what they share with it.
// Must not know: SQL, the stream, Kafka.
public import RelayCore
import Synchronization

/// The journal's writer and the watch on one thread, the anchor's upkeep on another. One object serves all sessions of a
/// process.
///
/// `begin` belongs to the relay's thread, `start` and `stop` to the one that owns the process.
public final class JournalKeeper: Sendable {
  let settings: PostgresSettings
  let mappings: [OutboxMapping]
  let run: RunEntry
  let log: Log
  let metrics: RelayMetrics
  /// Milliseconds between two publication checks.
  let publicationInterval: Int
  /// Milliseconds between two checks of the anchor.
  let anchorInterval: Int

  /// Where the relay hands over its checkpoints.
  public let mailbox: CheckpointMailbox
  let findings: WatchFindings
  /// Ends the threads.
  let end = StopSignal()
  /// Wakes the writer and the watch.
  let wake = WakeSignal()
  private let shared = Mutex(Shared())

  private struct Shared {
    var session: WatchedSession?
    var threads: [RelayThread] = []
    var anchorDropTime: MonotonicTime?
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
    mailbox = CheckpointMailbox(slot: settings.slot, wake: wake, log: log, metrics: metrics)
    findings = WatchFindings(wake: wake)
  }

  /// Starts the threads. They connect by themselves, and again whenever the connection is lost.
  /// - Throws: `failed` where the system gives no thread.
  public func start() throws(RelayError) {
    try start("outboxd-journal") { keeper in
      var watch = DatabaseWatch(keeper)
      watch.run()
    }
    guard let window = settings.replayWindow else { return }
    try start("outboxd-anchor") { keeper in
      var anchor = ReplayAnchor(keeper, window: window)
      anchor.run()
    }
  }

  private func start(
    _ name: String, _ body: @escaping @Sendable (JournalKeeper) -> Void
  ) throws(RelayError) {
    let thread = try RelayThread(name: name) { [self] in body(self) }
    shared.withLock { $0.threads.append(thread) }
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
    let number = mailbox.begin(checkpoint.lsn, keepsJournal: facts.journal.isInUse)
    let former = session.flatMap { $0.systemIdentifier == checkpoint.systemIdentifier ? $0 : nil }
    let session = WatchedSession(
      session: number, systemIdentifier: checkpoint.systemIdentifier, timeline: checkpoint.timeline,
      server: facts.server,
      publication: facts.publicationRecord != nil
        ? facts.publicationRecord(at: checkpoint.lsn)
        : facts.publication?.record(after: former?.publication, passed: checkpoint.lsn),
      seenAt: facts.publication?.seenAt ?? .zero, backend: backend)
    let fault = former.flatMap { former in
      // On another timeline the WAL may end before the place where it was seen.
      let since = former.timeline == checkpoint.timeline ? former.seenAt : min(former.seenAt, checkpoint.lsn)
      return facts.publication.flatMap {
        former.change(to: $0, of: settings.publication)?.fault(since: since)
      }
    }
    findings.begin(number, fault: fault)
    shared.withLock { $0.session = session }
    // From here on a reading is due.
    if metrics.slot == nil { metrics.slot = SlotReading() }
    if settings.replayWindow != nil, metrics.anchor == nil { metrics.anchor = AnchorReading() }
    wake.signal()
  }
}

// What the threads share.
extension JournalKeeper {
  var session: WatchedSession? { shared.withLock { $0.session } }

  /// The publication was found whole: later changes count from here.
  func note(_ record: PublicationRecord, seenAt: LSN, in session: CheckpointSession) {
    shared.withLock { shared in
      guard shared.session?.session == session else { return }
      shared.session?.publication = record
      shared.session?.seenAt = seenAt
    }
  }

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
