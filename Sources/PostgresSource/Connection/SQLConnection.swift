// Owns: one PGconn: connecting, plain SQL, and waiting for both with a deadline and the stop signal.
// Must not know: replication, any statement.
import CLibpq
import CSystem
import Glibc
public import RelayCore

/// The rows of a statement, as text; nil is NULL.
public struct SQLResult: Equatable, Sendable {
  public var columns: [String]
  public var rows: [[String?]]
  /// Rows inserted, updated or deleted, where the statement says so.
  public var affectedRows: Int

  /// The value at `row` in the column of that name; nil where it is NULL or there is none.
  public subscript(row: Int, column: String) -> String? {
    guard rows.indices.contains(row), let index = columns.firstIndex(of: column),
      rows[row].indices.contains(index)
    else { return nil }
    return rows[row][index]
  }
}

/// What the server said as it ended the connection. An idle client gets it as a notice, others as a result.
private final class LastWords {
  var fatal: ServerMessage?
}

/// Notices of plain statements ("already exists, skipping") are for nobody; libpq would print them.
private func hearNotice(_ context: UnsafeMutableRawPointer?, _ result: OpaquePointer?) {
  guard let context, let result else { return }
  let notice = ServerMessage(result)
  guard notice.endsConnection else { return }
  // SAFETY: the context is the LastWords of the connection that calls, which holds it as long as it lives.
  Unmanaged<LastWords>.fromOpaque(context).takeUnretainedValue().fatal = notice
}

/// A connection that blocks, though never longer than asked and never past a stop. Confined to one thread.
public final class SQLConnection {
  let handle: OpaquePointer
  let stop: StopSignal
  /// `host:port/database`, for messages.
  public let target: String
  /// As `server_version_num` has it: 150020 is 15.20.
  public let serverVersion: Int
  /// The server's process at the other end, as it was told at the login.
  var backend: Int { Int(PQbackendPID(handle)) }
  private let slot: String
  private let publication: String
  private let lastWords = LastWords()

  /// Connects, within `connect_timeout`, to `settings.server` where that is given.
  /// - Throws: `sourceUnavailable`, also where another server was reached; `sourceDenied`, `configurationInvalid`, or `interrupted` when a stop was
  ///   requested meanwhile.
  public convenience init(
    _ settings: PostgresSettings, applicationName: String = "outboxd", stop: StopSignal
  ) throws(RelayError) {
    try self.init(settings, replication: false, applicationName: applicationName, stop: stop)
  }

  init(
    _ settings: PostgresSettings, replication: Bool, encoding: String = "UTF8", applicationName: String,
    stop: StopSignal
  ) throws(RelayError) {
    let parameters = try ConnectionParameters(
      settings, replication: replication, encoding: encoding, applicationName: applicationName)
    handle = try Self.connect(parameters, stop: stop)
    self.stop = stop
    target = parameters.target
    slot = settings.slot
    publication = settings.publication
    serverVersion = Int(PQserverVersion(handle))
    PQsetNoticeReceiver(handle, hearNotice, Unmanaged.passUnretained(lastWords).toOpaque())
    if let fault = PostgresFailure.version(serverVersion, target: target) { throw fault }
    try query(
      "SELECT "
        + Self.sessionSettings.map { "pg_catalog.set_config('\($0.name)', '\($0.value)', false)" }
        .joined(separator: ", ") + "; " + Self.refusalOfViews)
    if !replication, let server = settings.server { try server.require(try identity(), at: reached) }
  }

  /// Of the database: `UTF8`, `WIN1252` and so on.
  var serverEncoding: String {
    // SAFETY: the handle is alive; libpq owns the text.
    PQparameterStatus(handle, "server_encoding").map { String(cString: $0) } ?? ""
  }

  /// As the server reports it, without a statement.
  var isInRecovery: Bool {
    // SAFETY: the handle is alive; libpq owns the text.
    PQparameterStatus(handle, "in_hot_standby").map { String(cString: $0) } == "on"
  }

  deinit {
    // SAFETY: the handle is this object's own and is used by nobody afterwards.
    PQfinish(handle)
  }

  /// What an administrator may have set for the role, the database or the server otherwise, and what reaches statements,
  /// messages, or values that come as text, those of the stream too. (`lc_messages` is not a role's to set: errors are
  /// told apart by their codes.)
  private static let sessionSettings = [
    // Objects of the same name in other schemas must not take the place of the system's.
    // Unless it is named, pg_temp comes first for tables and types.
    (name: "search_path", value: "pg_catalog, pg_temp"),
    // From 18 on a warning is all that tells of a publication that is missing.
    (name: "client_min_messages", value: "warning"),
    (name: "DateStyle", value: "ISO, YMD"),
    (name: "TimeZone", value: "UTC"),
    (name: "IntervalStyle", value: "postgres"),
    (name: "extra_float_digits", value: "1"),
    (name: "bytea_output", value: "hex"),
    (name: "xmlbinary", value: "base64"),
    (name: "quote_all_identifiers", value: "off"),
    (name: "standard_conforming_strings", value: "on"),
    // A statement after a lock must see what was done before the lock was had.
    (name: "default_transaction_isolation", value: "read committed"),
    // A policy is code of the table's owner: what it would be applied to is refused.
    (name: "row_security", value: "off"),
    // To exclude a table by its CHECK constraints the planner would evaluate functions of its owner.
    (name: "constraint_exclusion", value: "off"),
    // Catalogs are small, and the planner takes what is read of them for large: to compile that takes seconds.
    (name: "jit", value: "off"),
  ]

  /// Where the server has it (from 15.8, 16.4 and 17.0 on), a view or foreign table that has taken a table's place is
  /// refused at the plan.
  private static let refusalOfViews =
    "SELECT pg_catalog.set_config(name, 'view, foreign-table', false) FROM pg_catalog.pg_settings "
    + "WHERE name OPERATOR(pg_catalog.=) 'restrict_nonsystem_relation_kind'"

  private static func connect(
    _ parameters: ConnectionParameters, stop: StopSignal
  ) throws(RelayError) -> OpaquePointer {
    let keywords = parameters.values.map { strdup($0.keyword) }
    let values = parameters.values.map { strdup($0.value) }
    defer { (keywords + values).forEach { free($0) } }
    let keywordList = keywords.map { UnsafePointer($0) } + [nil]
    let valueList = values.map { UnsafePointer($0) } + [nil]
    // SAFETY: both arrays end with nil and their texts live until the call has returned; libpq copies them.
    guard let handle = PQconnectStartParams(keywordList, valueList, 0) else {
      throw RelayError(.sourceUnavailable, "no memory for a connection to Postgres")
    }
    PQsetNoticeReceiver(handle, hearNotice, nil)
    // The only way to the SQLSTATE of a login that is refused.
    PQsetErrorVerbosity(handle, PQERRORS_VERBOSE)
    do throws(RelayError) {
      let deadline = MonotonicTime.now().advanced(milliseconds: parameters.timeout)
      try establish(handle, target: parameters.target, deadline: deadline, stop: stop)
      PQsetErrorVerbosity(handle, PQERRORS_DEFAULT)
      return handle
    } catch {
      PQfinish(handle)
      throw error
    }
  }

  private static func establish(
    _ handle: OpaquePointer, target: String, deadline: MonotonicTime, stop: StopSignal
  ) throws(RelayError) {
    // SAFETY (all calls): the handle is alive; its error message is a text that libpq owns.
    var failed = PQstatus(handle) == CONNECTION_BAD
    var events = Int16(POLLOUT)
    while !failed {
      switch try wait(PQsocket(handle), events, until: deadline, stop: stop) {
      case .ready: break
      case .timedOut:
        throw ConnectionFailure(String(cString: PQerrorMessage(handle)) + "\ntimeout expired").error(
          target: target)
      }
      switch PQconnectPoll(handle) {
      case PGRES_POLLING_OK: return
      case PGRES_POLLING_READING: events = Int16(POLLIN)
      case PGRES_POLLING_WRITING: events = Int16(POLLOUT)
      default: failed = true
      }
    }
    throw ConnectionFailure(String(cString: PQerrorMessage(handle))).error(target: target)
  }
}

// Statements.
extension SQLConnection {
  /// Milliseconds that a statement may take where nothing else is said.
  public static let defaultTimeout = 15_000

  /// Runs a statement and returns its rows; without parameters there may be several statements, and the last
  /// one's rows are returned. Values are passed as text.
  /// - Parameter timeout: milliseconds; nil waits until there is an answer or a stop.
  /// - Throws: what `PostgresFailure` makes of the server's error; `sourceUnavailable` when the time is up
  ///   (the connection is then of no more use); `interrupted`.
  @discardableResult
  public func query(
    _ sql: String, _ parameters: [String?] = [], timeout: Int? = SQLConnection.defaultTimeout
  ) throws(RelayError) -> SQLResult {
    try query(sql, parameters, timeout: timeout, phase: .sql)
  }

  /// - Parameter phase: `rows` where the statement reads values of a table.
  @discardableResult
  func query(
    _ sql: String, _ parameters: [String?] = [], timeout: Int? = SQLConnection.defaultTimeout,
    phase: FailureContext.Phase
  ) throws(RelayError) -> SQLResult {
    try send(sql, parameters)
    return try answer(
      deadline: timeout.map { MonotonicTime.now().advanced(milliseconds: $0) } ?? .never, phase: phase)
  }

  /// The rows of what was sent last.
  func answer(
    deadline: MonotonicTime, phase: FailureContext.Phase = .sql
  ) throws(RelayError) -> SQLResult {
    var last = SQLResult(columns: [], rows: [], affectedRows: 0)
    var failure: RelayError?
    while let result = try nextResult(deadline: deadline) {
      // SAFETY: the result is this function's own and is freed once, at the end of the turn.
      defer { PQclear(result) }
      switch PQresultStatus(result) {
      case PGRES_TUPLES_OK, PGRES_COMMAND_OK, PGRES_EMPTY_QUERY: last = Self.rows(of: result)
      default: failure = failure ?? error(of: result, phase: phase)
      }
    }
    if let failure { throw failure }
    return last
  }

  func send(_ sql: String, _ parameters: [String?] = []) throws(RelayError) {
    let sent: Int32
    if parameters.isEmpty {
      sent = PQsendQuery(handle, sql)
    } else {
      let texts = parameters.map { $0.map { strdup($0) } ?? nil }
      defer { texts.forEach { free($0) } }
      let list = texts.map { UnsafePointer($0) }
      // SAFETY: `list` has as many entries as announced, and its texts live until the call has returned.
      sent = PQsendQueryParams(handle, sql, Int32(list.count), nil, list, nil, nil, 0)
    }
    guard sent == 1 else { throw lost() }
  }

  /// The next result of what was sent, nil after the last one. The caller frees it with PQclear.
  func nextResult(deadline: MonotonicTime) throws(RelayError) -> OpaquePointer? {
    guard try isAnswered(before: deadline) else {
      throw RelayError(
        .sourceUnavailable, "Postgres (\(target)) did not answer a statement within its time limit")
    }
    return PQgetResult(handle)
  }

  /// Whether the next result is there. False: not before the deadline, and it may be waited for again.
  func isAnswered(before deadline: MonotonicTime) throws(RelayError) -> Bool {
    while true {
      let flush = PQflush(handle)
      guard flush >= 0 else { throw lost() }
      if flush == 0 && PQisBusy(handle) == 0 { return true }
      let events = Int16(POLLIN) | (flush == 1 ? Int16(POLLOUT) : 0)
      switch try Self.wait(PQsocket(handle), events, until: deadline, stop: stop) {
      case .ready: break
      case .timedOut: return false
      }
      guard PQconsumeInput(handle) == 1 else { throw lost() }
    }
  }

  func error(
    of result: OpaquePointer, phase: FailureContext.Phase, transaction: LSN? = nil
  ) -> RelayError {
    let message = ServerMessage(result)
    // The end of the connection follows, and by itself has no reason.
    if message.endsConnection { lastWords.fatal = message }
    return PostgresFailure.relayError(
      message,
      FailureContext(
        phase: phase, slot: slot, publication: publication, target: target, transaction: transaction))
  }

  /// The connection is gone: the server has said why, or libpq does.
  func lost() -> RelayError {
    if let fatal = fatal {
      return RelayError(
        .sourceUnavailable, "Postgres (\(target)) ended the connection: \(fatal.text)", code: fatal.sqlstate)
    }
    // SAFETY: the handle is alive; its error message is a text that libpq owns.
    let text = PostgresFailure.oneLine(String(cString: PQerrorMessage(handle)))
    return RelayError(
      .sourceUnavailable,
      "the connection to Postgres (\(target)) was lost: \(text.isEmpty ? "no reason given" : text)",
      remedy: PostgresFailure.isOutOfMemory(text) ? PostgresFailure.memoryRemedy("twice") : nil)
  }

  /// What the server said before the end: to a client that waits for a result, or to an idle one.
  private var fatal: ServerMessage? {
    _ = PQisBusy(handle)
    guard lastWords.fatal == nil, PQstatus(handle) == CONNECTION_BAD else { return lastWords.fatal }
    while let result = PQgetResult(handle) {
      // SAFETY: the result is this function's own. On a connection that is gone nothing is waited for.
      defer { PQclear(result) }
      let message = ServerMessage(result)
      if message.sqlstate != nil { return message }
    }
    return nil
  }

  /// Why this connection, on which nothing runs, has come to its end. Nil: it has not. Never blocks.
  func end() -> RelayError? {
    let socket = PQsocket(handle)
    guard socket >= 0, PQstatus(handle) == CONNECTION_OK else { return lost() }
    var entry = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
    guard poll(&entry, 1, 0) > 0 else { return nil }
    guard PQconsumeInput(handle) == 1 else { return lost() }
    _ = PQisBusy(handle)
    return lastWords.fatal == nil ? nil : lost()
  }

  private static func rows(of result: OpaquePointer) -> SQLResult {
    // SAFETY (all calls): the result is alive, and rows and columns are counted by libpq itself.
    let width = PQnfields(result)
    let columns = (0..<width).map { String(cString: PQfname(result, $0)) }
    let rows = (0..<PQntuples(result)).map { row in
      (0..<width).map { column -> String? in
        PQgetisnull(result, row, column) == 1 ? nil : String(cString: PQgetvalue(result, row, column))
      }
    }
    let affected = PQcmdTuples(result).flatMap { Int(String(cString: $0)) } ?? 0
    return SQLResult(columns: columns, rows: rows, affectedRows: affected)
  }

  enum WaitOutcome { case ready, timedOut }

  /// Waits for the socket, the deadline or a stop.
  static func wait(
    _ socket: Int32, _ events: Int16, until deadline: MonotonicTime, stop: StopSignal?
  ) throws(RelayError) -> WaitOutcome {
    // Without a socket the connection is gone: libpq's next call says why.
    guard socket >= 0 else { return .ready }
    while true {
      stop?.turned()
      let left = MonotonicTime.now().milliseconds(until: deadline, limit: 1000)
      var entries = (
        pollfd(fd: socket, events: events, revents: 0),
        // A negative descriptor is one that poll(2) leaves out.
        pollfd(fd: stop?.descriptor ?? -1, events: Int16(POLLIN), revents: 0)
      )
      let count = withUnsafeMutableBytes(of: &entries) { bytes in
        // SAFETY: a tuple of two pollfd is laid out as an array of two; it lives for the call.
        poll(bytes.baseAddress?.assumingMemoryBound(to: pollfd.self), 2, Int32(left))
      }
      if stop?.isRequested == true {
        throw RelayError(.interrupted, "a stop was requested while waiting for Postgres")
      }
      if count > 0 && entries.0.revents != 0 { return .ready }
      if left == 0 { return .timedOut }
    }
  }
}
