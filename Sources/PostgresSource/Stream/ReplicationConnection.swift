// Owns: the replication commands, and the CopyBoth stream of one connection as raw messages.
// Must not know: what the messages say, checkpoints. One connection serves one START.
import CLibpq
import CSystem
import Glibc
import RelayCore

/// What the notice receiver heard. The stream's thread writes and reads it.
private final class NoticeBox {
  /// 18 and later only warn where a publication is missing, and leave its changes out.
  var skippedPublication: ServerMessage? { didSet { hasSkippedPublication = true } }
  /// Looked at for each row.
  private(set) var hasSkippedPublication = false
}

private func receiveNotice(_ context: UnsafeMutableRawPointer?, _ result: OpaquePointer?) {
  guard let context, let result else { return }
  // SAFETY: the context is the NoticeBox of the connection that calls, which holds it as long as it lives.
  let box = Unmanaged<NoticeBox>.fromOpaque(context).takeUnretainedValue()
  let notice = ServerMessage(result)
  // By the SQLSTATE alone: the text may be in the server's language.
  if notice.sqlstate == "55000", notice.severity == "WARNING" || notice.severity == nil {
    box.skippedPublication = notice
  }
}

/// A connection with `replication=database`. Confined to one thread.
final class ReplicationConnection {
  let sql: SQLConnection
  private let settings: PostgresSettings
  private let notices = NoticeBox()
  private var buffer: UnsafeMutablePointer<CChar>?
  private var isEncrypted = false
  private var receiveBuffer: ReceiveBuffer?
  /// How often the socket was read. What libpq has read already may last for many turns.
  private(set) var socketReads: UInt64 = 0
  private var knownReads: UInt64 = 0

  /// The commit LSN of the transaction that is being read, for messages. Whoever decodes them sets it.
  var transaction: LSN?

  /// Bytes of complete messages so far.
  private(set) var receivedBytes: UInt64 = 0
  private var receivedMessages: UInt64 = 0
  /// Set when the server was heard of; whoever watches it clears it.
  var heard = false
  /// True while bytes to the server wait in libpq's buffer.
  private(set) var wantsWrite = false

  /// How often one `receive` reads a message that is still incomplete before it lets the caller look at its
  /// timers: about 16 MiB.
  private static let readLimit = 8
  /// Of TLS 1.3 with AES-GCM: header, content type and tag (RFC 8446, section 5.2).
  private static let recordOverhead = 22
  private static let largestRecord = 16_384 + 22
  /// Messages may have become larger than they were on average.
  private static let encryptedReadLimit = 128

  /// As `SQLConnection`.
  /// - Parameter encoding: of texts. SQL_ASCII: the database's own, unconverted.
  init(_ settings: PostgresSettings, encoding: String = "UTF8", stop: StopSignal) throws(RelayError) {
    self.settings = settings
    sql = try SQLConnection(
      settings, replication: true, encoding: encoding, applicationName: "outboxd", stop: stop)
    PQsetNoticeReceiver(sql.handle, receiveNotice, Unmanaged.passUnretained(notices).toOpaque())
    if let server = settings.server {
      let found = try identifySystem()
      try server.require(
        ServerIdentity(
          systemIdentifier: found.systemIdentifier, timeline: sql.isInRecovery ? nil : found.timeline,
          database: found.database),
        at: sql.reached)
    }
  }

  deinit {
    // SAFETY: the buffer came from PQgetCopyData and was not freed yet.
    PQfreemem(buffer)
  }

  var descriptor: Int32 { PQsocket(sql.handle) }
  var backend: Int { sql.backend }
}

// Commands.
extension ReplicationConnection {
  struct Identity {
    var systemIdentifier: UInt64
    var timeline: UInt32
    var walEnd: LSN
    var database: String
  }

  func identifySystem() throws(RelayError) -> Identity {
    let result = try sql.query("IDENTIFY_SYSTEM")
    guard let system = result[0, "systemid"].flatMap({ UInt64($0) }),
      let timeline = result[0, "timeline"].flatMap({ UInt32($0) }),
      let walEnd = result[0, "xlogpos"].flatMap({ LSN($0) }), let database = result[0, "dbname"]
    else {
      throw RelayError(
        .serverUnsuitable, "the server (\(sql.target)) gave an unusable answer to IDENTIFY_SYSTEM",
        remedy:
          "Connect to Postgres directly, not through a pooler, and name a database in postgres.conninfo.")
    }
    return Identity(systemIdentifier: system, timeline: timeline, walEnd: walEnd, database: database)
  }

  /// Nil where the server has no such file: it is no fault by itself. Any other error is one: a history that could not
  /// be read must not look like a history that has parted.
  func timelineHistory(_ timeline: UInt32) throws(RelayError) -> [TimelineSwitch]? {
    do throws(RelayError) {
      return try sql.query("TIMELINE_HISTORY \(timeline)")[0, "content"].map(TimelineSwitch.parse)
    } catch  where error.code == "58P01" {
      return nil
    }
  }

  /// - Parameters:
  ///   - messages: whether logical messages come too.
  ///   - binary: false: every value comes as text.
  func start(at lsn: LSN, messages: Bool = false, binary: Bool = true) throws(RelayError) {
    let publication = SQLText.literal(SQLText.identifier(settings.publication))
    try sql.send(
      "START_REPLICATION SLOT \(SQLText.identifier(settings.slot)) LOGICAL \(lsn) (proto_version '1', "
        + "publication_names \(publication), messages '\(messages)', binary '\(binary)')")
    let deadline = MonotonicTime.now().advanced(milliseconds: SQLConnection.defaultTimeout)
    guard let result = try sql.nextResult(deadline: deadline) else { throw sql.lost() }
    defer { PQclear(result) }
    guard PQresultStatus(result) == PGRES_COPY_BOTH else {
      throw sql.error(of: result, phase: .start)
    }
    // Only now: libpq wants the commands before it in blocking mode.
    guard PQsetnonblocking(sql.handle, 1) == 0 else { throw sql.lost() }
    isEncrypted = PQsslInUse(sql.handle) == 1 || PQgssEncInUse(sql.handle) == 1
    receiveBuffer = ReceiveBuffer(descriptor, isAdaptive: settings.isAdaptive, now: .now())
    heard = true
  }
}

// The stream.
extension ReplicationConnection {
  /// The next message, valid until the following call; nil when there is none, or none that is complete yet.
  /// Never blocks.
  func receive() throws(RelayError) -> LentBytes? {
    if let buffer {
      // SAFETY: the buffer came from PQgetCopyData; nobody may use it any more, by this function's promise.
      PQfreemem(buffer)
      self.buffer = nil
    }
    var reads = 0
    var quietReads = 0
    // A read without bytes in the socket is needed to learn of the connection's end. An encrypted connection
    // may hold one record of 16 KiB in its own buffer, which takes two reads of libpq's.
    let quietLimit = isEncrypted ? 3 : 1
    while true {
      // SAFETY: the handle is alive; the call sets the buffer only where it returns a positive count.
      let count = PQgetCopyData(sql.handle, &buffer, 1)
      if notices.hasSkippedPublication, let notice = notices.skippedPublication {
        throw publicationSkipped(notice)
      }
      if count > 0 {
        heard = true
        receivedBytes &+= UInt64(UInt32(bitPattern: count)) &+ 5
        receivedMessages &+= 1
        // SAFETY: libpq gives `count` bytes at the buffer, which lives until it is freed above.
        return LentBytes(start: buffer, count: Int(count))
      }
      guard count == 0 else { throw ended(count) }
      let waiting = waitingBytes
      if waiting > 0 {
        heard = true
        reads += 1
        if reads > Self.readLimit { return nil }
        try gather(waiting)
      } else {
        quietReads += 1
        if quietReads > quietLimit { return nil }
        try consume()
      }
    }
  }

  private func consume() throws(RelayError) {
    socketReads &+= 1
    guard PQconsumeInput(sql.handle) == 1 else { throw lost() }
  }

  /// Empties the socket into libpq's buffer, which grows. A socket that is emptied bit by bit, between rows, lets
  /// the server send each of its rows as a segment of its own meanwhile.
  private func gather(_ first: Int) throws(RelayError) {
    var waiting = first
    var gathered = 0
    // One read may bring many times what waited for it: the server goes on sending meanwhile.
    let start = Int(outboxd_bytes_received(descriptor)) - waiting
    repeat {
      for _ in 0..<readCount(waiting) { try consume() }
      gathered += waiting
      waiting = waitingBytes
      guard waiting > 0 else { return }
      gathered = max(gathered, Int(outboxd_bytes_received(descriptor)) - waiting - start)
    } while gathered < Tuning.Reading.gatheredBytes
  }

  /// How many reads the waiting bytes need, about. The server encrypts each message by itself, and libpq reads one
  /// TLS record a time: to ask before each what is left would cost as much again. A read too many finds nothing.
  private func readCount(_ waiting: Int) -> Int {
    guard isEncrypted, receivedMessages > 0 else { return 1 }
    let average = Int(receivedBytes / receivedMessages) + Self.recordOverhead
    return min(max(1, waiting / min(average, Self.largestRecord)), Self.encryptedReadLimit)
  }

  /// To be called once a turn.
  func adaptReceiveBuffer(_ now: MonotonicTime) {
    receiveBuffer?.adapt(wasRead: socketReads != knownReads, now: now)
    knownReads = socketReads
  }

  /// Something from the server waits in the socket, though nobody may have had the time to read it.
  var hasWaitingBytes: Bool { waitingBytes > 0 }

  private var waitingBytes: Int { Int(outboxd_bytes_waiting(descriptor)) }

  /// Hands a status message to libpq. False: its buffer is full, try again when the socket is writable.
  func send(_ message: UnsafeRawBufferPointer) throws(RelayError) -> Bool {
    // SAFETY: libpq copies `count` bytes from the buffer, which lives for the call.
    let sent = PQputCopyData(
      sql.handle, message.baseAddress?.assumingMemoryBound(to: CChar.self), Int32(message.count))
    guard sent >= 0 else { throw lost() }
    try flush()
    return sent == 1
  }

  func flush() throws(RelayError) {
    let result = PQflush(sql.handle)
    guard result >= 0 else { throw lost() }
    wantsWrite = result == 1
  }

  /// Ends the copy and waits for the server to end it too, dropping what still comes.
  func end(deadline: MonotonicTime) throws(RelayError) {
    guard PQputCopyEnd(sql.handle, nil) == 1 else { return }
    while true {
      try flush()
      while let _ = try receiveUntilEnd() {}
      guard !isEnded else { return }
      let events = Int16(POLLIN) | (wantsWrite ? Int16(POLLOUT) : 0)
      let outcome = try SQLConnection.wait(descriptor, events, until: deadline, stop: nil)
      guard case .ready = outcome else { return }
      guard PQconsumeInput(sql.handle) == 1 else { return }
    }
  }

  private var isEnded: Bool { PQtransactionStatus(sql.handle) != PQTRANS_ACTIVE }

  /// A dropped message's length, nil when no more is available now.
  private func receiveUntilEnd() throws(RelayError) -> Int32? {
    var message: UnsafeMutablePointer<CChar>?
    let count = PQgetCopyData(sql.handle, &message, 1)
    // SAFETY: the message came from PQgetCopyData, or is nil, which PQfreemem takes.
    defer { PQfreemem(message) }
    if count > 0 { return count }
    // The results of both directions' ends, as far as they have come.
    while count < 0, PQisBusy(sql.handle) == 0, let result = PQgetResult(sql.handle) { PQclear(result) }
    return nil
  }

  private func lost() -> RelayError {
    var error = sql.lost()
    if let transaction { error.message += " (in the transaction that commits at \(transaction))" }
    return error
  }

  private func ended(_ count: Int32) -> RelayError {
    guard count == -1, let result = PQgetResult(sql.handle) else { return lost() }
    // SAFETY: the result is this function's own.
    defer { PQclear(result) }
    let status = PQresultStatus(result)
    if status == PGRES_FATAL_ERROR || status == PGRES_NONFATAL_ERROR {
      return sql.error(of: result, phase: .stream, transaction: transaction)
    }
    return RelayError(
      .sourceUnavailable, "the server ended the stream of slot \"\(settings.slot)\" (it is shutting down?)")
  }

  private func publicationSkipped(_ notice: ServerMessage) -> RelayError {
    RelayError(
      .publicationMissing,
      "publication \"\(settings.publication)\" was missing, and the server leaves its changes out of slot "
        + "\"\(settings.slot)\": \(notice.text)", code: notice.sqlstate,
      remedy: PostgresFailure.publicationGoneRemedy)
  }
}
