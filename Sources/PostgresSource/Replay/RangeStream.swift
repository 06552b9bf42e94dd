// Owns: a range of the WAL as a source with an end: the stream of a temporary slot, cut off behind the range.
// Must not know: why the range is read, how its slot came to be.
public import RelayCore

/// The transactions whose commit LSN lies between two places, both included, in commit order. Confined to the
/// relay's thread. The temporary slot goes with the connection, and the connection with the first failure and the end
/// of the range: a server that shuts down waits for whoever streams from it, however slowly.
public final class RangeStream: BoundedSource {
  /// Of the first transaction that may come: its commit LSN.
  public let from: LSN
  /// Of the last: its commit LSN.
  public let through: LSN
  public let database: String
  private var stream: ReplicationStream?
  /// An ordinary connection, on which nothing runs. A server that shuts down ends it at once, while the stream, where
  /// the records wait for their sink, is not even read.
  private var watcher: SQLConnection?
  /// The whole range's beginning, where this one goes on from a later place.
  private let origin: LSN
  private let anchor: String
  /// The end of what was read.
  private var reached: LSN
  /// True once everything of the range was handed over.
  public private(set) var isAtEnd = false

  init(
    _ stream: ReplicationStream, origin: LSN, through: LSN, anchor: String, watcher: SQLConnection? = nil
  ) {
    self.stream = stream
    self.watcher = watcher
    database = stream.database
    self.origin = origin
    self.through = through
    self.anchor = anchor
    from = stream.startLSN
    reached = stream.startLSN
    isAtEnd = stream.startLSN > through
  }

  public var descriptor: Int32 { stream?.descriptor ?? -1 }
  public var wantsWrite: Bool { stream?.wantsWrite ?? false }
  public var receivedBytes: UInt64 { stream?.receivedBytes ?? 0 }
  public var reportTime: MonotonicTime { stream?.reportTime ?? .never }
  public var relation: Relation {
    stream?.relation ?? Relation(id: 0, schema: "", table: "", columns: [])
  }

  /// In bytes of WAL.
  public var progress: (done: UInt64, total: UInt64) {
    let total = through.rawValue &- origin.rawValue &+ 1
    return (isAtEnd ? total : min(total, max(reached, origin).rawValue &- origin.rawValue), total)
  }

  public func position(after checkpoint: LSN) -> String? {
    checkpoint > origin ? checkpoint.description : nil
  }

  /// - Throws: `replayUnavailable` where the WAL or the publication does not have the rest; `sourceUnavailable`.
  public func next() throws(RelayError) -> Change? {
    guard !isAtEnd, let stream else { return nil }
    let change: Change?
    do throws(RelayError) {
      change = try stream.next()
    } catch {
      throw failed(error)
    }
    switch change {
    case .begin(let commitLSN, _, _):
      guard commitLSN <= through else { return end() }
      reached = max(reached, commitLSN)
    case .commit(_, let endLSN, _):
      reached = max(reached, endLSN)
      // What follows begins at this end, or behind it.
      if endLSN > through { _ = end() }
    case .keepalive(let walEnd):
      guard walEnd <= through else { return end() }
      reached = max(reached, walEnd)
    default: break
    }
    return change
  }

  private func end() -> Change? {
    isAtEnd = true
    close()
    return nil
  }

  public func report(flushed: LSN, now: MonotonicTime) throws(RelayError) {
    guard let stream else { return }
    if let end = watcher?.end() { throw failed(end) }
    do throws(RelayError) {
      try stream.report(flushed: flushed, now: now)
    } catch {
      throw failed(error)
    }
  }

  public func finish(flushed: LSN, deadline: MonotonicTime) {
    stream?.finish(flushed: flushed, deadline: deadline)
    close()
  }

  private func close() {
    stream = nil
    watcher = nil
  }

  /// Where the stream has ended because the server shuts down, only the other connection was told so.
  private func failed(_ error: RelayError) -> RelayError {
    var error = translated(error)
    if error.kind == .sourceUnavailable, error.code == nil, let end = watcher?.end() { error = end }
    close()
    return error
  }

  /// What is said of a slot is the main slot's, whose remedies would do harm here.
  private func translated(_ error: RelayError) -> RelayError {
    switch error.kind {
    case .publicationMissing:
      RelayError(
        .replayUnavailable,
        "the rows after \(reached) cannot be decoded: when they were committed, the publication did not exist or was "
          + "different: \(error.message)", code: error.code,
        remedy: "Replay from an LSN after the publication was created, or from the tables.")
    case .slotLost, .slotMissing, .slotUnsuitable:
      RelayError(
        .replayUnavailable,
        "the WAL of the replay after \(reached) is gone: anchor slot \"\(anchor)\" was dropped or lost: "
          + error.message, code: error.code, remedy: "Replay the rest from the tables.")
    default: error
    }
  }
}
