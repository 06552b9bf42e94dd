// Owns: the second connection while the relay runs: when it is made, what is done on it in turn, what its loss means.
// Must not know: the stream, Kafka, what is written or checked.
import CLibpq
import CSystem
import Glibc
import RelayCore
import Synchronization

/// The journal's writer, the slot's readings and the publication's guard take turns. Everything in it is made on one thread
/// and stays there.
struct DatabaseWatch {
  private let keeper: JournalKeeper
  private var writer: JournalWriter
  private var slot: SlotWatch
  private var publication: PublicationWatch
  private var connection: SQLConnection?
  /// Where it leads to.
  private var server: ServerIdentity?
  /// Short also in the end: a server that shuts down ends the connections one by one, and while there is none it tells
  /// only those who ask for one.
  private var backOff = BackOff(first: 500, limit: 2_000)
  /// The session of the newest turn.
  private var session = CheckpointSession()
  /// The connection was lost, and no attempt was made yet to have another.
  private var wasLost = false
  private var told: (reason: String, time: MonotonicTime)?
  private var connectTime = MonotonicTime(nanoseconds: 0)

  /// In milliseconds.
  private static let tellInterval = 60_000

  init(_ keeper: JournalKeeper) {
    self.keeper = keeper
    writer = JournalWriter(keeper)
    slot = SlotWatch(keeper)
    publication = PublicationWatch(keeper)
  }

  mutating func run() {
    while !keeper.end.isRequested {
      do throws(RelayError) {
        if let session = keeper.session { try turn(session, .now()) }
      } catch {
        handle(error)
      }
      wait()
    }
  }

  private mutating func turn(_ current: WatchedSession, _ now: MonotonicTime) throws(RelayError) {
    if current.session != session {
      session = current.session
      backOff.reset()
      connectTime = now
      publication.begin(now)
    }
    // The stream has gone on to another server.
    if current.server != server { connection = nil }
    if connection == nil, now >= connectTime || keeper.mailbox.isUrgent { try connect(to: current.server) }
    guard let connection else { return }
    // Before the journal, which may be locked.
    try slot.read(on: connection, now)
    try writer.write(on: connection, current, now)
    try writer.settle(on: connection, current)
    try checkPublication(connection, now)
    tellRecovery()
  }

  private mutating func checkPublication(
    _ connection: SQLConnection, _ now: MonotonicTime
  ) throws(RelayError) {
    let request = keeper.findings.requestedCheck
    // Where a session has begun meanwhile, its turn comes next.
    guard let newest = keeper.session, newest.session == session else { return }
    guard request != nil || writer.doubtsPublication || publication.isDue(now) else { return }
    writer.doubtsPublication = false
    try publication.check(on: connection, newest, proven: writer.provenSnapshot)
    if let request { keeper.findings.publicationChecked(request) }
  }
}

// The connection.
extension DatabaseWatch {
  /// Sleeps until something is due, somebody waits, or the server speaks, which on an idle connection
  /// means that it hangs up.
  private mutating func wait() {
    var entries = (
      pollfd(fd: keeper.wake.descriptor, events: Int16(POLLIN), revents: 0),
      pollfd(fd: keeper.end.descriptor, events: Int16(POLLIN), revents: 0),
      pollfd(fd: connection.map { PQsocket($0.handle) } ?? -1, events: Int16(POLLIN), revents: 0)
    )
    withUnsafeMutableBytes(of: &entries) { bytes in
      // SAFETY: a tuple of three pollfd is laid out as an array of three; it lives for the call.
      _ = poll(bytes.baseAddress?.assumingMemoryBound(to: pollfd.self), 3, 250)
    }
    keeper.wake.clear()
    guard entries.2.revents != 0, let connection, !keeper.end.isRequested else { return }
    if let end = connection.end() { handle(end) }
  }

  private mutating func connect(to server: ServerIdentity) throws(RelayError) {
    do throws(RelayError) {
      let new = try SQLConnection(
        keeper.settings.on(server), applicationName: "outboxd journal", stop: keeper.end)
      let journal = CheckpointJournal(connection: new, slot: keeper.settings.slot)
      if keeper.mailbox.keepsJournal { try journal.requireTrust() }
      try journal.boundStatements()
      connection = new
      self.server = server
      wasLost = false
      backOff.succeeded()
    } catch {
      connectTime = MonotonicTime.now().advanced(milliseconds: backOff.delay())
      throw error
    }
  }
}

// Failures.
extension DatabaseWatch {
  private var isPending: Bool { keeper.mailbox.pending(in: session) != nil }

  private mutating func handle(_ error: RelayError) {
    guard error.kind != .interrupted else { return }
    if isPending { keeper.metrics.journalFailures.add(1, ordering: .relaxed) }
    keeper.mailbox.failed()
    if let fault = fault(error) { keeper.findings.post(fault, in: session) }
    tell(error)
    guard connection != nil else {
      wasLost = false
      return
    }
    connection = nil
    wasLost = error.kind == .sourceUnavailable
    // Tried again at once: whether that succeeds tells a lost connection from a server that goes.
    connectTime = MonotonicTime.now().advanced(milliseconds: wasLost ? 0 : backOff.delay())
  }

  /// What the failure means to the stream. Nil: nothing.
  private func fault(_ error: RelayError) -> RelayError? {
    let code = error.code ?? ""
    if error.invalidatesStart || error.kind == .journalUnusable {
      // Only a start can judge it.
      return error
    }
    if connection != nil, code.hasPrefix("42") || code == "3F000" {
      // The tables or the rights on them are gone: without them nothing could be confirmed any more.
      return RelayError(
        .journalUnusable, error.message, code: error.code,
        remedy: "Run what outboxd init prints (schema, tables and grants), or set postgres.journal: off.")
    }
    // A server that shuts down waits until the slot has confirmed everything, and the journal that must come
    // first can no longer be written: only the end of the stream lets the server go.
    let isGoing = connection == nil && (error.meansServerEnds || (wasLost && error.code == nil))
    return isGoing ? error : nil
  }

  /// The second connection is there, and so is the journal where something had to be written.
  private mutating func tellRecovery() {
    guard let told, !isPending || writer.lastWrite > told.time else { return }
    self.told = nil
    keeper.metrics.watchFault = nil
    keeper.log.notice(
      "the second connection, for journal and watch, is restored", ("slot", keeper.settings.slot))
  }

  private mutating func tell(_ error: RelayError) {
    let now = MonotonicTime.now()
    keeper.metrics.watchFault = error.message
    if let told, told.reason == error.message, now < told.time.advanced(milliseconds: Self.tellInterval) {
      return
    }
    told = (error.message, now)
    let codeField: [Log.Field] = error.code.map { [("code", $0)] } ?? []
    keeper.log.write(
      .warning, "the second connection, for journal and watch, failed",
      [("slot", keeper.settings.slot), ("reason", error.message)] + codeField)
  }
}
