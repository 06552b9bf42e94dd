// Owns: when a checkpoint of the mailbox is written to the journal, and what is proven to be published with it.
// Must not know: connecting, the stream, Kafka.
import RelayCore
import Synchronization

/// The writer's side of the mailbox. Made and used on the watch's thread.
struct JournalWriter {
  private let keeper: JournalKeeper
  private var historyTime = MonotonicTime(nanoseconds: 0)
  private var pruneTime = MonotonicTime(nanoseconds: 0)
  private(set) var lastWrite = MonotonicTime(nanoseconds: 0)
  private var deliveredAtLastWrite: UInt64 = 0
  /// Published as far as everything visible in it goes.
  private(set) var provenSnapshot: ProvenSnapshot?
  /// Proven once a checkpoint has reached its position.
  private var nextSnapshot: ProvenSnapshot?
  private var snapshotSession: WatchedSession?
  /// The publication was found changed: it must be checked.
  var doubtsPublication = false

  // All in milliseconds.
  private static let writeInterval = 1_000
  /// An idle stream moves a little by the journal's own writes. Writing at once each time would never end.
  private static let idleWriteInterval = 10_000
  private static let idleBytes: UInt64 = 256 * 1024
  private static let historyInterval = 10_000
  private static let pruneInterval = 3_600_000

  init(_ keeper: JournalKeeper) { self.keeper = keeper }

  /// Writes what is pending of `session`, where it is time. `connection` must lead to the session's server.
  mutating func write(
    on connection: SQLConnection, _ session: WatchedSession, _ now: MonotonicTime
  ) throws(RelayError) {
    let mailbox = keeper.mailbox
    guard let lsn = mailbox.pending(in: session.session) else { return }
    let delivered = keeper.metrics.eventsDelivered.load(ordering: .relaxed)
    let hasNews =
      delivered != deliveredAtLastWrite || lsn.rawValue &- mailbox.journaled.rawValue >= Self.idleBytes
    let interval = hasNews ? Self.writeInterval : Self.idleWriteInterval
    guard mailbox.isUrgent || now >= lastWrite.advanced(milliseconds: interval) else { return }
    let journal = CheckpointJournal(connection: connection, slot: keeper.settings.slot)
    try prove(lsn, session, journal)
    let checkpoint = session.checkpoint(lsn)
    try journal.write(checkpoint, snapshot: provenSnapshot, creates: false)
    mailbox.written(JournalAcknowledgement(lsn, in: session.session))
    lastWrite = now
    deliveredAtLastWrite = delivered
    if now >= historyTime {
      historyTime = now.advanced(milliseconds: Self.historyInterval)
      try journal.appendHistory(checkpoint, snapshot: provenSnapshot)
    }
    if now >= pruneTime {
      pruneTime = now.advanced(milliseconds: Self.pruneInterval)
      try journal.pruneHistory(window: keeper.settings.replayWindow)
    }
  }

  /// Writes that the process has ended in good order, where that is asked for.
  func settle(on connection: SQLConnection, _ session: WatchedSession) throws(RelayError) {
    guard let lsn = keeper.mailbox.settling(in: session.session) else { return }
    try CheckpointJournal(connection: connection, slot: keeper.settings.slot).settle(
      keeper.run, at: session.checkpoint(lsn))
    keeper.mailbox.settled()
  }

  private mutating func prove(
    _ lsn: LSN, _ session: WatchedSession, _ journal: CheckpointJournal
  ) throws(RelayError) {
    if snapshotSession?.systemIdentifier != session.systemIdentifier
      || snapshotSession?.timeline != session.timeline
    {
      snapshotSession = session
      provenSnapshot = nil
      nextSnapshot = nil
    }
    if let next = nextSnapshot {
      guard lsn >= next.lsn else { return }
      // Asked after the snapshot was taken: what is visible in it was committed under the publication of the start.
      let inspector = SlotInspector(connection: journal.connection, settings: keeper.settings)
      if session.publication != nil {
        guard let now = try inspector.publicationIdentity(),
          session.change(to: now, of: keeper.settings.publication)?.isWhole == true
        else {
          doubtsPublication = true
          return
        }
      }
      provenSnapshot = next
    }
    nextSnapshot = try journal.snapshot()
  }
}
