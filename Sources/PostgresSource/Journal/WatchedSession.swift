// Owns: what the threads beside the stream must know of the session that runs.
// Must not know: how it is learned, threads.
import RelayCore

struct WatchedSession: Equatable {
  /// As the mailbox counts it.
  var session: CheckpointSession
  var systemIdentifier: UInt64
  var timeline: UInt32
  /// What the other connections of the session must lead to.
  var server: ServerIdentity
  var publication: PublicationRecord?
  /// The publication was found whole when the WAL had got here.
  var seenAt: LSN
  /// The server's process that streams.
  var backend: Int?

  func checkpoint(_ lsn: LSN) -> Checkpoint {
    Checkpoint(lsn: lsn, systemIdentifier: systemIdentifier, timeline: timeline)
  }

  func change(
    to now: PublicationFacts, of name: String, isWatched: Bool = false
  ) -> PublicationChange? {
    publication.map { PublicationChange(name: name, before: $0, now: now, isWatched: isWatched) }
  }
}
