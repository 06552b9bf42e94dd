// Owns: giving up the first transaction that is not acknowledged: finding it, reading it for the last time, and moving
// the checkpoint past it.
// Must not know: Kafka, files, the command line.
import Glibc
public import RelayCore

/// What was read of the transaction that is given up.
public struct SkippedTransaction: Sendable {
  public var commitLSN: LSN
  public var commitTime: PostgresMicroseconds
  /// Where the relay goes on.
  public var next: LSN
  /// Rows that were handed over.
  public var rows: UInt32 = 0
  /// Why the server could not send the rest. Nil: it sent everything.
  public var fault: RelayError?
}

/// The giving up of one transaction, step by step. While it lasts the slot is in use by it, so that no relay starts.
/// Until `complete` nothing has changed.
public final class TransactionSkip {
  /// One message of the transaction that is given up, or of a table's shape.
  public enum Part {
    case relation(Relation)
    case row(RowView, commitLSN: LSN, commitTime: PostgresMicroseconds, index: RowIndex)
  }

  public let settings: PostgresSettings
  public let facts: ServerFacts
  /// The transaction's commit LSN.
  public let lsn: LSN
  /// Everything before it is acknowledged.
  public let checkpoint: LSN
  /// Texts come in the database's own encoding, so that none fails to be converted.
  public let isUTF8: Bool
  private let stop: StopSignal
  private var stream: ReplicationStream?

  /// Takes the slot and starts to read at the checkpoint. Confirms nothing beyond it.
  /// - Throws: `slotActive` where outboxd runs; what keeps a relay from starting at the checkpoint; `failed` where the
  ///   transaction is acknowledged already or does not exist yet; what a connection throws.
  public init(
    settings: PostgresSettings, mappings: [OutboxMapping], lsn: LSN, stop: StopSignal
  ) throws(RelayError) {
    let facts = try PostgresSource.inspect(settings: settings, mappings: mappings, stop: stop)
    let decision = StartDecision(facts: facts, settings: settings, mappings: mappings)
    // What is wrong with a table may be the very reason.
    let fault = decision.faults.first { $0.kind != .tableUnsuitable && $0.kind != .publicationUnsuitable }
    if let fault {
      throw fault.kind == .slotActive
        ? Recovery.inUse(settings, facts.slot, command: "outboxd skip") : fault
    }
    guard let slot = facts.slot else {
      throw RelayError(
        .slotMissing, "slot \"\(settings.slot)\" does not exist: no transaction can be given up")
    }
    let checkpoint = max(slot.confirmedFlushLSN ?? .zero, decision.checkpoint ?? .zero)
    try Self.require(lsn, between: checkpoint, and: facts.walEnd, slot: settings.slot)
    let settings = settings.on(facts.server)
    // The connection that streams runs nothing else: see `PostgresSource.open`.
    let connection = try ReplicationConnection(settings, encoding: "SQL_ASCII", stop: stop)
    let identity = try connection.identifySystem()
    isUTF8 = connection.sql.serverEncoding == "UTF8"
    try connection.start(at: checkpoint, binary: false)
    self.settings = settings
    self.facts = facts
    self.lsn = lsn
    self.checkpoint = checkpoint
    self.stop = stop
    stream = ReplicationStream(
      connection, facts: facts, settings: settings, mappings: mappings, startLSN: checkpoint,
      walEnd: identity.walEnd, keeper: nil)
  }

  private static func require(
    _ lsn: LSN, between checkpoint: LSN, and walEnd: LSN, slot: String
  ) throws(RelayError) {
    guard lsn >= checkpoint else {
      throw RelayError(
        .failed,
        "the transaction at \(lsn) is before the checkpoint of slot \"\(slot)\", \(checkpoint): Kafka acknowledged "
          + "it, or it was given up before", remedy: "Nothing was changed. Start outboxd run.")
    }
    guard lsn < walEnd else {
      throw RelayError(.failed, "the WAL of the server ends at \(walEnd), before \(lsn)", remedy: whichLSN)
    }
  }

  private static let whichLSN =
    "Nothing was changed. Give the LSN that outboxd run names when it halts at a transaction."

  /// Reads the transaction to its end, or to where the server cannot send it. What is handed over is lent until the
  /// closure returns.
  /// - Throws: `failed` where an earlier transaction has rows, or none at `lsn` has; what `receive` throws.
  public func read(_ receive: (Part) throws(RelayError) -> Void) throws(RelayError) -> SkippedTransaction {
    guard let stream else { throw RelayError(.failed, "the transaction was read already") }
    var current: SkippedTransaction?
    var turns = 0
    while true {
      let change: Change?
      do throws(RelayError) {
        // The server wants to hear from us also while there is always more to read.
        turns &+= 1
        if turns % 1_000 == 0 { try report(stream) }
        change = try stream.next()
      } catch {
        guard var transaction = current, Self.cannotBeSent(error) else { throw error }
        self.stream = nil
        transaction.fault = error
        guard transaction.commitLSN == lsn else { throw earlier(transaction) }
        return transaction
      }
      switch change {
      case .begin(let commitLSN, let commitTime, _):
        guard commitLSN <= lsn else { throw notFound() }
        // Whatever commits later has its commit record behind this one's start.
        current = SkippedTransaction(
          commitLSN: commitLSN, commitTime: commitTime, next: LSN(commitLSN.rawValue + 1))
      case .relation: try receive(.relation(stream.relation))
      case .insert(let row): try take(row, &current, receive)
      case .commit(_, let endLSN, _):
        if var transaction = current, transaction.rows > 0 {
          transaction.next = endLSN
          guard transaction.commitLSN == lsn else { throw earlier(transaction) }
          return transaction
        }
        current = nil
      case .keepalive(let walEnd) where current == nil && walEnd > lsn: throw notFound()
      case nil: try wait(stream)
      default: break
      }
    }
  }

  private func take(
    _ row: RowView, _ current: inout SkippedTransaction?, _ receive: (Part) throws(RelayError) -> Void
  ) throws(RelayError) {
    guard let transaction = current else {
      throw RelayError(.streamMalformed, "the server sent a row outside a transaction")
    }
    if transaction.commitLSN == lsn {
      try receive(.row(row, commitLSN: lsn, commitTime: transaction.commitTime, index: transaction.rows))
    }
    current?.rows &+= 1
  }

  private func wait(_ stream: ReplicationStream) throws(RelayError) {
    try report(stream)
    let events = Int16(POLLIN) | (stream.wantsWrite ? Int16(POLLOUT) : 0)
    let wake = min(stream.reportTime, MonotonicTime.now().advanced(milliseconds: 1_000))
    _ = try SQLConnection.wait(stream.descriptor, events, until: wake, stop: stop)
  }

  private func report(_ stream: ReplicationStream) throws(RelayError) {
    if stop.isRequested { throw RelayError(.interrupted, "a stop was requested; nothing was changed") }
    try stream.report(flushed: checkpoint, now: .now())
  }

  /// Errors that a value of the transaction causes, at every attempt. Memory that is short now is none: the rows must be
  /// in the file before they are given up.
  private static func cannotBeSent(_ error: RelayError) -> Bool {
    ["22", "54", "XX"].contains(String((error.code ?? "").prefix(2)))
  }

  private func earlier(_ transaction: SkippedTransaction) -> RelayError {
    let count = transaction.rows == 1 ? "1 event" : "\(transaction.rows) events"
    guard let fault = transaction.fault else {
      return RelayError(
        .failed,
        "an earlier transaction, at \(transaction.commitLSN), with \(count) is not acknowledged yet; nothing was changed",
        remedy:
          "Start outboxd run: it publishes everything before \(lsn), or halts at the transaction that it cannot "
          + "publish and names its LSN.")
    }
    return RelayError(
      .failed,
      "an earlier transaction, at \(transaction.commitLSN), is not acknowledged yet, and the server cannot send it; "
        + "nothing was changed: \(fault.message)", code: fault.code,
      remedy: "Give that one up first: outboxd skip --lsn \(transaction.commitLSN) --reason '…'")
  }

  private func notFound() -> RelayError {
    RelayError(
      .failed,
      "no transaction with rows of an outbox committed at \(lsn), after the checkpoint \(checkpoint)",
      remedy: Self.whichLSN)
  }
}

// The checkpoint.
extension TransactionSkip {
  /// Moves the checkpoint past the transaction, and keeps a trace in `outboxd.job`: one statement, all or nothing.
  /// Without a journal the slot is moved.
  /// - Parameter request: JSON: what was asked for, and what came of it.
  /// - Throws: `failed` where the checkpoint has changed since it was read.
  public func complete(_ transaction: SkippedTransaction, request: String) throws(RelayError) {
    let connection = try SQLConnection(settings, applicationName: "outboxd skip", stop: stop)
    guard facts.journal.isInUse else {
      release()
      return try advance(to: transaction.next, connection)
    }
    let journal = CheckpointJournal(connection: connection, slot: settings.slot)
    try journal.boundStatements()
    let place = facts.checkpoint(at: transaction.next)
    let isMoved = try journal.skip(
      to: place, from: facts.journal.row.flatMap { $0.isFromHistory ? nil : $0.checkpoint },
      events: transaction.rows, request: request)
    release()
    guard isMoved else {
      throw RelayError(
        .failed,
        "the checkpoint of slot \"\(settings.slot)\" has changed since it was read; it was not moved",
        remedy: "See outboxd status, and run outboxd skip again if the relay still halts at \(lsn).")
    }
  }

  /// Lets the slot go.
  public func release() {
    stream?.finish(flushed: checkpoint, deadline: .now().advanced(milliseconds: 1_000))
    stream = nil
  }

  /// The walsender that has read the slot ends a moment after its connection.
  private func advance(to place: LSN, _ connection: SQLConnection) throws(RelayError) {
    let deadline = MonotonicTime.now().advanced(milliseconds: 10_000)
    while true {
      do throws(RelayError) {
        try connection.query(
          "SELECT pg_replication_slot_advance(\(SQLText.literal(settings.slot)), '\(place)')", timeout: nil)
        return
      } catch  where error.kind == .slotActive && MonotonicTime.now() < deadline {
        stop.wait(milliseconds: 100)
      }
    }
  }
}

extension CheckpointJournal {
  /// Moves the row past a transaction that is given up, and enters that as a finished job. One statement.
  /// - Parameter former: what the row said. Nil: there was none.
  /// - Returns: false where the row says something else by now.
  func skip(
    to checkpoint: Checkpoint, from former: Checkpoint?, events: UInt32, request: String
  ) throws(RelayError) -> Bool {
    let slot = SQLText.literal(self.slot)
    let change =
      if let former {
        """
        UPDATE outboxd.checkpoint SET lsn = '\(checkpoint.lsn)'::pg_lsn, updated_at = clock_timestamp()
        WHERE slot = \(slot) AND lsn = '\(former.lsn)'::pg_lsn AND timeline = \(former.timeline)
          AND system_identifier = '\(former.systemIdentifier)' RETURNING slot
        """
      } else {
        """
        INSERT INTO outboxd.checkpoint (slot, lsn, system_identifier, timeline)
        VALUES (\(slot), '\(checkpoint.lsn)'::pg_lsn, '\(checkpoint.systemIdentifier)', \(checkpoint.timeline))
        ON CONFLICT DO NOTHING RETURNING slot
        """
      }
    let result = try connection.query(
      """
      WITH moved AS (\(change))
      INSERT INTO outboxd.job (slot, command, request, events, finished_at)
      SELECT slot, 'skip', \(SQLText.literal(request))::jsonb, \(events), clock_timestamp() FROM moved
      """)
    return result.affectedRows == 1
  }
}
