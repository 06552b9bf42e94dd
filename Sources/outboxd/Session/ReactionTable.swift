// Owns: what each failure leads to in the daemon and in a job.
// Must not know: how a reaction is carried out.
import RelayCore

/// `RelayError.Kind.reaction`, with the exceptions of one use of a session.
struct ReactionTable: Sendable {
  typealias Reactions = [RelayError.Kind: RelayError.Kind.Reaction]

  var exceptions: Reactions = [:]
  /// Until the first source has been opened.
  var beforeFirstSource: Reactions = [:]
  /// Where the server must be judged again before anything continues. Nil: as the kind says.
  var invalidStart: RelayError.Kind.Reaction?

  func reaction(to error: RelayError, hasStreamed: Bool) -> RelayError.Kind.Reaction {
    if !hasStreamed, let reaction = beforeFirstSource[error.kind] { return reaction }
    if error.invalidatesStart, let invalidStart { return invalidStart }
    return exceptions[error.kind] ?? error.kind.reaction
  }

  /// It has nobody to ask, and outlives whatever passes.
  static let daemon = ReactionTable()

  /// A person waits for it, who can correct what is denied, and before the first row nothing is lost by giving up.
  static let job = ReactionTable(
    exceptions: [.sourceDenied: .halt, .sinkDenied: .halt, .slotActive: .reconnectSource],
    beforeFirstSource: [.sourceUnavailable: .halt, .slotActive: .halt],
    // After a promotion the positions of the job may not be those of the new primary.
    invalidStart: .halt)
}
