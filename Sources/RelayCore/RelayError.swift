// Owns: what can go wrong, and the one table that says what then happens.
// Must not know: SQLSTATEs and Kafka's error codes; they are translated where they arise.

/// A failure, for a program (kind) and for a person (the rest).
public struct RelayError: Error, Equatable, Sendable {
  public enum Kind: String, CaseIterable, Sendable {
    // The source side.
    /// Postgres is not reachable, or hung up. It comes back by itself.
    case sourceUnavailable
    /// Postgres refused the connection or a right. It needs a person, and no restart.
    case sourceDenied
    /// Another process streams from the slot: this one is the standby.
    case slotActive
    case slotMissing
    case slotLost
    /// The slot exists and is unsuitable: another plugin or database, temporary, or two-phase.
    case slotUnsuitable
    /// The slot stands beyond the checkpoint: events were skipped.
    case slotMoved
    case systemIdentifierChanged
    case timelineDiverged
    /// The server's WAL ends before the checkpoint.
    case serverBehindCheckpoint
    case serverUnsuitable
    case publicationMissing
    /// The publication does not publish what the configuration names.
    case publicationUnsuitable
    case journalUnusable
    /// The range of a replay is no longer available.
    case replayUnavailable
    /// Bytes that are not pgoutput.
    case streamMalformed

    // The row and the record.
    /// The table lacks a column that the mapping needs.
    case tableUnsuitable
    /// The row cannot become a valid event, or the server cannot send it.
    case rowRejected
    /// Kafka refuses the record for good.
    case recordRejected

    // The sink side.
    /// The producer must be rebuilt; nothing is wrong with the records.
    case sinkFailed
    /// Kafka refused the client: authentication, authorization, TLS. It needs a person, and no restart.
    case sinkDenied
    case topicMissing

    // The process.
    case configurationInvalid
    case usage
    case interrupted
    case failed
  }

  public var kind: Kind
  /// One sentence: what happened, and where.
  public var message: String
  /// The SQLSTATE or Kafka error name, where there is one.
  public var code: String?
  /// One sentence or more: what to do. May hold SQL or commands.
  public var remedy: String?
  /// The commit LSN of the transaction whose row or record was rejected.
  public var commitLSN: LSN?
  /// What failed is corrected already: the next attempt need not wait.
  public var isRemedied = false
  /// The server may be a copy of the one that published before.
  public var mayBeCopy = false
  /// What the stream or the job began with holds no more: the server must be judged again.
  public var invalidatesStart = false

  public init(_ kind: Kind, _ message: String, code: String? = nil, remedy: String? = nil) {
    self.kind = kind
    self.message = message
    self.code = code
    self.remedy = remedy
  }
}

extension RelayError.Kind {
  public enum Reaction: Sendable {
    /// Connect to the source again, after a back-off.
    case reconnectSource
    /// As `reconnectSource`, but as standby: evenly, and without alarm.
    case standBy
    /// Rebuild the sink, send again from the checkpoint, after a back-off.
    case rebuildSink
    /// The outbox's `on_rejection` decides.
    case applyPolicy
    /// Stop the process, say why, and exit with `exitCode`.
    case halt
  }

  /// The only place that decides what a failure leads to.
  public var reaction: Reaction {
    switch self {
    case .sourceUnavailable, .sourceDenied: .reconnectSource
    case .slotActive: .standBy
    case .sinkFailed, .sinkDenied: .rebuildSink
    case .rowRejected, .recordRejected: .applyPolicy
    case .slotMissing, .slotLost, .slotUnsuitable, .slotMoved, .systemIdentifierChanged,
      .timelineDiverged, .serverBehindCheckpoint, .serverUnsuitable, .publicationMissing,
      .publicationUnsuitable, .journalUnusable, .replayUnavailable, .streamMalformed, .tableUnsuitable,
      .topicMissing,
      .configurationInvalid, .usage, .interrupted, .failed:
      .halt
    }
  }

  /// The exit status of a process that ends for this reason. Documented in the README.
  public var exitCode: Int32 {
    switch self {
    case .failed: 1
    case .usage: 2
    case .slotMissing: 10
    case .slotLost: 11
    case .slotUnsuitable: 12
    case .slotMoved: 13
    case .systemIdentifierChanged: 14
    case .timelineDiverged: 15
    case .serverBehindCheckpoint: 16
    case .serverUnsuitable: 17
    case .publicationMissing: 18
    case .publicationUnsuitable: 19
    case .journalUnusable: 20
    case .streamMalformed: 21
    case .tableUnsuitable: 22
    case .rowRejected: 23
    case .recordRejected: 24
    case .topicMissing: 25
    case .replayUnavailable: 26
    case .sourceUnavailable, .sinkFailed, .slotActive: 75
    case .sourceDenied, .sinkDenied: 77
    case .configurationInvalid: 78
    case .interrupted: 130
    }
  }
}

extension RelayError: CustomStringConvertible {
  /// All of it on one line, for a log.
  public var description: String {
    var text = message
    if let code { text += " [\(code)]" }
    if let remedy { text += " Remedy: \(remedy)" }
    return text
  }
}
