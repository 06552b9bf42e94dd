// Owns: the running stream: messages to changes, and what the server is told in return and when.
// Must not know: Kafka, the ledger, what an outbox row means.
import Glibc
public import RelayCore

/// A started replication stream. Confined to the relay's thread.
public final class ReplicationStream: ChangeSource {
  public let systemIdentifier: UInt64
  public let timeline: UInt32
  public let server: ServerIdentity
  /// As `server_version_num` has it: 150020 is 15.20.
  public let serverVersion: Int
  public let database: String
  /// Everything that ends at or below it is published already.
  public let startLSN: LSN
  /// The end of the WAL just before the stream began: whoever streamed from the slot before has not seen more.
  public let walEnd: LSN
  /// The process that streamed before this one. Nil: nothing is known of it, or it was this one.
  public let former: FormerRun?

  private let connection: ReplicationConnection
  private let slot: String
  private let keeper: JournalKeeper?
  private let mappings: [OutboxMapping]
  /// What was known of the publication at the start.
  private let record: PublicationRecord?
  private let status: UnsafeMutableRawBufferPointer
  private var decoder = PgOutputDecoder()

  /// Between a BEGIN and its COMMIT.
  private var isInTransaction: Bool { connection.transaction != nil }
  /// The highest position seen in a keepalive or a commit: the server must not be told more.
  private var seenLSN: LSN
  private var sentLSN: LSN
  private var replyRequested = false
  /// The publication check that must be done before rows of the newest shape go out.
  private var awaitedCheck: UInt64?
  private var checkDeadline = MonotonicTime(nanoseconds: 0)
  /// How often the socket had been read when the last check that was done was requested. Nil once something was
  /// written: libpq reads, uncounted, where it cannot write.
  private var readsBeforeCheck: UInt64?

  /// Milliseconds that the server may be left without a report.
  public let reportInterval: Int
  private let silenceLimit: Int
  private var lastSent: MonotonicTime
  private var lastHeard: MonotonicTime
  private var askedAt: MonotonicTime?
  public private(set) var reportTime: MonotonicTime

  /// Milliseconds between two reports that only say that the position rose.
  static let newsInterval = 100
  /// Milliseconds that a publication check may take.
  private static let checkLimit = 5_000
  /// Milliseconds that the server has for an answer when it has been silent for too long.
  var answerLimit = 10_000

  init(
    _ connection: ReplicationConnection, facts: ServerFacts, settings: PostgresSettings,
    mappings: [OutboxMapping], startLSN: LSN, walEnd: LSN, keeper: JournalKeeper?,
    former: FormerRun? = nil, confirmsStart: Bool = true
  ) {
    self.former = former
    self.connection = connection
    self.mappings = mappings
    record = facts.publicationRecord(at: startLSN)
    self.keeper = keeper
    slot = settings.slot
    systemIdentifier = facts.systemIdentifier
    timeline = facts.timeline
    server = facts.server
    serverVersion = facts.serverVersion
    database = facts.database
    self.startLSN = startLSN
    self.walEnd = walEnd
    seenLSN = startLSN
    // Zero confirms nothing: the slot does not move.
    sentLSN = confirmsStart ? startLSN : .zero
    reportInterval = facts.walSenderTimeout > 0 ? max(1, min(10_000, facts.walSenderTimeout / 3)) : 10_000
    silenceLimit = facts.walSenderTimeout > 0 ? facts.walSenderTimeout : 60_000
    status = .allocate(byteCount: StatusMessage.count, alignment: 8)
    status.initializeMemory(as: UInt8.self, repeating: 0)
    let now = MonotonicTime.now()
    lastSent = now
    lastHeard = now
    // The first report goes out at once.
    reportTime = now
  }

  deinit {
    // SAFETY: allocated by init, used only inside this object's calls.
    status.deallocate()
  }

  /// The place to resume from: the ledger's position, in this cluster's history.
  public func checkpoint(_ lsn: LSN) -> Checkpoint {
    Checkpoint(lsn: lsn, systemIdentifier: systemIdentifier, timeline: timeline)
  }

  public var descriptor: Int32 { connection.descriptor }
  public var wantsWrite: Bool { connection.wantsWrite }
  public var receivedBytes: UInt64 { connection.receivedBytes }
  /// As it was when the row was committed: a table that was renamed since is known by its OID.
  public var relation: Relation {
    var relation = decoder.relation
    let names = (keeper?.session?.publication ?? record)?.names(of: relation.id) ?? []
    relation.outbox = names.lazy.compactMap { self.mappings.mapping(of: $0.origin) }.first
    return relation
  }

  /// - Throws: `sourceUnavailable` when the connection is gone; `slotLost`, `slotMissing`,
  ///   `publicationMissing`, `serverUnsuitable`, `sourceDenied` as the server says; `streamMalformed`.
  public func next() throws(RelayError) -> Change? {
    guard let bytes = try connection.receive() else { return nil }
    switch try CopyMessage.decode(bytes) {
    case .walData(let payload):
      let change = try decoder.decode(payload)
      switch change {
      case .begin(let commitLSN, _, _): connection.transaction = commitLSN
      case .commit(_, let endLSN, _):
        connection.transaction = nil
        seenLSN = max(seenLSN, endLSN)
      default: break
      }
      return change
    case .keepalive(let walEnd, let requested):
      seenLSN = max(seenLSN, walEnd)
      if requested {
        replyRequested = true
        reportTime = MonotonicTime(nanoseconds: 0)
      }
      return .keepalive(walEnd: walEnd)
    }
  }
}

// What is found beside the stream.
extension ReplicationStream {
  /// A table's shape comes again after each change of the publication, before the next row. Rows may have been left out
  /// before it, so none goes out before the publication has been checked. One check serves for all shapes that had come
  /// when it was requested. Where the second connection is away the stream does not wait for it indefinitely: the watch
  /// finds later what there is to find.
  public func shapeWait() throws(RelayError) -> GateWait? {
    guard let keeper else { return nil }
    guard let check = awaitedCheck ?? requestCheck(keeper) else { return nil }
    if !keeper.findings.isPublicationChecked(check) {
      guard MonotonicTime.now() >= checkDeadline else {
        return GateWait(
          for: "the check of the publication",
          "a table's shape has come: its rows wait until the publication has been checked",
          until: checkDeadline,
          descriptor: keeper.findings.checked.descriptor, patience: 1_000)
      }
      readsBeforeCheck = nil
    }
    awaitedCheck = nil
    if let fault = keeper.findings.takeFault() { throw fault }
    return nil
  }

  /// Nil: the last check serves for this shape, too.
  private func requestCheck(_ keeper: JournalKeeper) -> UInt64? {
    guard readsBeforeCheck != connection.socketReads else { return nil }
    let check = keeper.findings.requestPublicationCheck()
    awaitedCheck = check
    readsBeforeCheck = connection.socketReads
    checkDeadline = MonotonicTime.now().advanced(milliseconds: Self.checkLimit)
    return check
  }

  /// What the watch on the database has found: `publicationMissing`, `publicationUnsuitable`, `journalUnusable`,
  /// `sourceUnavailable`.
  public func takeFault() -> RelayError? { keeper?.findings.takeFault() }
}

// What the server is told.
extension ReplicationStream {
  /// - Throws: `sourceUnavailable` when the connection is gone or the server is silent.
  public func report(flushed: LSN, now: MonotonicTime) throws(RelayError) {
    connection.adaptReceiveBuffer(now)
    if connection.wantsWrite {
      readsBeforeCheck = nil
      try connection.flush()
      // Nothing is added to what the server does not take.
      if connection.wantsWrite {
        reportTime = max(reportTime, now.advanced(milliseconds: Self.newsInterval))
        return try watch(now)
      }
    }
    let position = max(sentLSN, min(flushed, seenLSN))
    let newsTime = lastSent.advanced(milliseconds: Self.newsInterval)
    let isOverdue = now >= lastSent.advanced(milliseconds: reportInterval)
    if replyRequested || now >= reportTime || (position > sentLSN && now >= newsTime) {
      // Where nothing could be confirmed for so long, the answer tells how far the server is.
      try send(position, requestReply: isOverdue, now: now)
    } else if position > sentLSN {
      reportTime = min(reportTime, newsTime)
    }
    try watch(now)
  }

  private func send(_ position: LSN, requestReply: Bool = false, now: MonotonicTime) throws(RelayError) {
    StatusMessage.encode(
      position: position, clientTime: postgresNow(), requestReply: requestReply, into: status)
    readsBeforeCheck = nil
    guard try connection.send(UnsafeRawBufferPointer(status)) else {
      reportTime = now.advanced(milliseconds: Self.newsInterval)
      return
    }
    sentLSN = position
    replyRequested = false
    lastSent = now
    reportTime = now.advanced(milliseconds: reportInterval)
  }

  /// A peer that is gone without a word makes no descriptor readable: after a silence it is asked.
  private func watch(_ now: MonotonicTime) throws(RelayError) {
    if connection.heard || (askedAt != nil && connection.hasWaitingBytes) {
      connection.heard = false
      lastHeard = now
      askedAt = nil
      return
    }
    if let askedAt {
      guard now >= askedAt.advanced(milliseconds: answerLimit) else { return }
      throw RelayError(
        .sourceUnavailable,
        "Postgres (\(connection.sql.target)) has sent nothing on slot \"\(slot)\" for "
          + "\(lastHeard.milliseconds(until: now, limit: .max) / 1000) s, not even a reply to a request")
    }
    guard now >= lastHeard.advanced(milliseconds: silenceLimit) else { return }
    // While the relay holds back, what the server has sent waits in the socket.
    guard !connection.hasWaitingBytes else {
      lastHeard = now
      return
    }
    askedAt = now
    if !connection.wantsWrite { try send(sentLSN, requestReply: true, now: now) }
    reportTime = min(reportTime, now.advanced(milliseconds: answerLimit))
  }

  public func finish(flushed: LSN, deadline: MonotonicTime) {
    let position = max(sentLSN, min(flushed, seenLSN))
    // The stream ends in any case, and whoever reads the slot next has the position at worst too low.
    try? finish(position, deadline: deadline)
  }

  private func finish(_ position: LSN, deadline: MonotonicTime) throws(RelayError) {
    try send(position, now: .now())
    while connection.wantsWrite {
      let outcome = try SQLConnection.wait(descriptor, Int16(POLLOUT), until: deadline, stop: nil)
      guard case .ready = outcome else { return }
      try connection.flush()
    }
    // In the middle of a transaction the server would send the rest of it first.
    guard !isInTransaction else { return }
    try connection.end(deadline: deadline)
  }
}
