// Owns: finding out, while the relay runs, that the publication leaves rows out.
// Must not know: when the journal is written, connecting, Kafka.
import RelayCore

/// Made and used on the watch's thread.
struct PublicationWatch {
  private let keeper: JournalKeeper
  private var checkTime = MonotonicTime(nanoseconds: 0)
  /// When the publication was last found whole.
  private var seenTime = MonotonicTime(nanoseconds: 0)

  init(_ keeper: JournalKeeper) { self.keeper = keeper }

  /// A session has begun: its start has checked the publication.
  mutating func begin(_ now: MonotonicTime) { seenTime = now }

  func isDue(_ now: MonotonicTime) -> Bool { now >= checkTime }

  /// Checks the publication, and has the findings and the journal know.
  /// - Parameter proven: published as far as everything visible in it goes.
  mutating func check(
    on connection: SQLConnection, _ session: WatchedSession, proven: ProvenSnapshot?
  ) throws(RelayError) {
    checkTime = MonotonicTime.now().advanced(milliseconds: keeper.publicationInterval)
    let check = try publicationCheck(connection, session)
    if let fault = fault(check, session) { return keeper.findings.post(fault, in: session.session) }
    guard let publication = check.publication,
      let journaled = keeper.mailbox.journaled(in: session.session)
    else { return }
    let record = publication.record(
      after: session.publication, passed: journaled,
      joined: .joining(after: proven?.text, at: proven?.lsn))
    // Never at a fault: the next start, too, must see that something may have been left out.
    if keeper.mailbox.keepsJournal, record != session.publication {
      try CheckpointJournal(connection: connection, slot: keeper.settings.slot)
        .writePublication(record, of: session.systemIdentifier)
    }
    keeper.note(record, seenAt: publication.seenAt, in: session.session)
    seenTime = .now()
  }

  private func publicationCheck(
    _ connection: SQLConnection, _ session: WatchedSession
  ) throws(RelayError) -> PublicationCheck {
    let inspector = SlotInspector(connection: connection, settings: keeper.settings)
    let (publication, tables) = try inspector.outboxes(keeper.mappings, since: session.publication)
    return PublicationCheck(
      name: keeper.settings.publication, publication: publication, tables: tables, mappings: keeper.mappings,
      before: session.publication)
  }

  private func fault(_ check: PublicationCheck, _ session: WatchedSession) -> RelayError? {
    let isWatched = MonotonicTime.now() <= seenTime.advanced(milliseconds: 2 * keeper.publicationInterval)
    return check.fault
      ?? check.publication.flatMap {
        session.change(to: $0, of: keeper.settings.publication, isWatched: isWatched)?
          .fault(since: session.seenAt)
      }
  }
}
