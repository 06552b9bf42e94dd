// Owns: what the journal answers, and the session that the answer belongs to.
// Must not know: how the journal is kept.

/// A run of the journal with one stream. Acknowledgements of a session that is over mean nothing: the next one may be on
/// another server, or begin at an older place.
public struct CheckpointSession: Hashable, Sendable {
  /// Counts the sessions of a process; 0: none has begun, or there is only one.
  public let number: UInt64

  public init(_ number: UInt64 = 0) { self.number = number }
}

/// The journal of `session` has everything that ends at or below `lsn`.
public struct JournalAcknowledgement: Equatable, Sendable {
  public var lsn: LSN
  public var session: CheckpointSession

  public init(_ lsn: LSN, in session: CheckpointSession) {
    self.lsn = lsn
    self.session = session
  }
}
