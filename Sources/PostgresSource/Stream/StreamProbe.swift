// Owns: whether the stream can be read from a place to the end of the WAL, by reading it. Moves nothing.
// Must not know: what follows from a fault.
import Glibc
import RelayCore

/// The WAL itself tells what no catalog does: that a segment of it is gone or damaged, or that it has rows from before
/// the publication or a table was what it is now.
struct StreamProbe {
  let facts: ServerFacts
  let settings: PostgresSettings
  let mappings: [OutboxMapping]
  let stop: StopSignal
  let log: Log

  /// In milliseconds.
  private static let quiet: Int = 2_000
  private static let releaseLimit: Int = 10_000

  /// - Parameter start: as `StartDecision.decide` gives it.
  /// - Returns: the error that `outboxd run` would halt with before the end of the WAL. Nil: there is none.
  /// - Throws: what says nothing of the stream: `slotActive`, `sourceUnavailable`, `sourceDenied`, `interrupted`.
  func fault(from start: LSN) throws(RelayError) -> RelayError? {
    var fault: RelayError?
    do throws(RelayError) {
      try read(from: start)
    } catch {
      switch error.kind {
      case .slotActive: throw Recovery.inUse(settings, nil, command: "outboxd recover")
      case .sourceUnavailable, .sourceDenied, .interrupted: throw error
      default: fault = error
      }
    }
    try awaitRelease()
    return fault
  }

  private func read(from start: LSN) throws(RelayError) {
    let (connection, identity) = try PostgresSource.stream(from: start, facts, settings: settings, stop: stop)
    let stream = ReplicationStream(
      connection, facts: facts, settings: settings, mappings: mappings, startLSN: start,
      walEnd: identity.walEnd,
      keeper: nil, confirmsStart: false)
    var rows = RowCheck(mappings: mappings, database: facts.database)
    var transaction: (commitLSN: LSN, commitTime: PostgresMicroseconds, rows: UInt32) = (.zero, 0, 0)
    var told = MonotonicTime.now().advanced(milliseconds: Self.quiet)
    var turns = 0
    while true {
      // The server wants to hear from us also while there is always more to read.
      turns &+= 1
      if turns % 1_000 == 0 { try report(stream, &told) }
      switch try stream.next() {
      case .relation: rows.prepare(stream.relation)
      case .begin(let commitLSN, let commitTime, _): transaction = (commitLSN, commitTime, 0)
      case .insert(let row):
        try rows.check(
          row, commitLSN: transaction.commitLSN, commitTime: transaction.commitTime, index: transaction.rows)
        transaction.rows &+= 1
      case .commit(_, let endLSN, _) where endLSN >= facts.walEnd: return release(stream)
      // Everything before it has come.
      case .keepalive(let walEnd) where walEnd >= facts.walEnd: return release(stream)
      case nil:
        try report(stream, &told)
        let events = Int16(POLLIN) | (stream.wantsWrite ? Int16(POLLOUT) : 0)
        let wake = min(stream.reportTime, MonotonicTime.now().advanced(milliseconds: 1_000))
        _ = try SQLConnection.wait(stream.descriptor, events, until: wake, stop: stop)
      default: break
      }
    }
  }

  private func report(_ stream: ReplicationStream, _ told: inout MonotonicTime) throws(RelayError) {
    let now = MonotonicTime.now()
    try stream.report(flushed: .zero, now: now)
    guard now >= told else { return }
    told = .never
    log.notice(
      "checking that the stream can be read up to the end of the WAL", ("slot", settings.slot),
      ("lsn", "\(stream.startLSN)"), ("wal_end", "\(facts.walEnd)"))
  }

  private func release(_ stream: ReplicationStream) {
    stream.finish(flushed: .zero, deadline: .now().advanced(milliseconds: Self.releaseLimit))
  }

  /// The walsender that has read the slot ends a moment after its connection.
  private func awaitRelease() throws(RelayError) {
    let inspector = SlotInspector(
      connection: try SQLConnection(settings, applicationName: "outboxd recover", stop: stop),
      settings: settings)
    let deadline = MonotonicTime.now().advanced(milliseconds: Self.releaseLimit)
    while let slot = try inspector.slot(), slot.isActive {
      guard MonotonicTime.now() < deadline else {
        throw Recovery.inUse(settings, slot, command: "outboxd recover")
      }
      stop.wait(milliseconds: 50)
    }
  }
}
