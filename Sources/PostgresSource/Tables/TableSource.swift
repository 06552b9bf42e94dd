// Owns: the rows of outbox tables as a source of changes: one cursor after the other, batches, places to go on from.
// Must not know: the statement of a cursor, Kafka, what an event is.
import CLibpq
import Glibc
public import RelayCore

/// Rows of tables, as synthetic transactions that are numbered from 1: such a number stands where a stream has an LSN.
/// Confined to the relay's thread.
public final class TableSource: BoundedSource {
  public let database: String
  private let connection: SQLConnection
  /// A connection on which nothing runs but looks at the catalog of the moment, which the snapshot of the rows does not
  /// show. While rows wait for their sink the other one is not read, and its end not seen:
  /// what the server has sent before fills the socket.
  private var watcher: SQLConnection?
  private let access: TableAccess
  private let server: TableCatalog.Server
  private let shapes: [TableShape]
  private let range: TableRange
  /// Nil: of no interest.
  private let streamed: StreamedRows?
  private let tally: TableTally
  /// By table.
  private var counts: [TableCount] = []
  /// By table: where its key stands in its rows.
  private let keys: [[Int]]
  private let outboxHashes: [Int]

  private var tableIndex = 0
  /// Where the table at `tableIndex` is taken up.
  private var startPlace: TablePlace.Parsed?
  private var batch: TableBatch?
  private var row = 0
  /// A result whose end was not received yet.
  private var answer: TableBatch?
  private var isAnnounced = false
  /// What the server was asked for and has not answered yet.
  private var request = Request.none
  private var batchSize = Tuning.Tables.firstBatch
  private let values: UnsafeMutableBufferPointer<ColumnValue>

  // The synthetic transaction.
  private var number: UInt64 = 0
  private var isInTransaction = false
  private var rowsInTransaction = 0
  /// When it began; and the newest turn of the loop, which is as exact as a place must be.
  private var transactionStart = MonotonicTime(nanoseconds: 0)
  private var turn = MonotonicTime(nanoseconds: 0)
  private var places = TablePlaces()

  public private(set) var isAtEnd = false
  public private(set) var receivedBytes: UInt64 = 0
  public private(set) var wantsWrite = false
  private var rowsRead: UInt64 = 0
  private let estimate: UInt64

  private enum Request { case none, lock, declare, fetch(Int), end }

  init(
    _ connection: SQLConnection, watcher: SQLConnection, access: TableAccess, server: TableCatalog.Server,
    shapes: [TableShape], range: TableRange, streamed: StreamedRows?, tally: TableTally
  ) {
    self.connection = connection
    self.watcher = watcher
    self.access = access
    self.server = server
    self.shapes = shapes
    self.range = range
    self.streamed = streamed
    self.tally = tally
    outboxHashes = shapes.map(\.outboxHash)
    keys = shapes.map { shape in
      shape.keyColumns.compactMap { name in shape.columns.firstIndex { $0.name == name } }
    }
    database = server.database
    // Of a part nobody knows how large it is without reading everything.
    let isWhole = range.lowestTransaction == nil && range.since == nil
    let isKnown = isWhole && shapes.allSatisfy { $0.estimatedRows >= 0 }
    estimate = isKnown ? UInt64(max(0, shapes.map(\.estimatedRows).reduce(0, &+))) : 0
    values = .allocate(capacity: max(1, shapes.map(\.columns.count).max() ?? 1))
    values.initialize(repeating: ColumnValue(format: .null, bytes: LentBytes(start: nil, count: 0)))
    counts = shapes.map { shape in
      TableCount(
        oid: shape.oid, table: QualifiedName.text(shape.schema, shape.table),
        outbox: shape.formerName?.qualified,
        order: query(shape).order,
        gap: shape.streamStart(range).map { streamed?.gap(since: $0) } ?? range.doubt)
    }
    // A job that has lost its connection goes on.
    for former in tally.counts {
      guard let index = counts.firstIndex(where: { $0.oid == former.oid }) else { continue }
      counts[index].certain = former.certain
      counts[index].doubtful = former.doubtful
      counts[index].streamed = former.streamed
    }
    tally.counts = counts
  }

  deinit {
    // SAFETY: allocated by init and never handed over; a RowView is void once the source is gone.
    values.deallocate()
  }

  public var descriptor: Int32 { PQsocket(connection.handle) }
  public var reportTime: MonotonicTime { isAtEnd ? MonotonicTime(nanoseconds: 0) : .never }
  public var progress: (done: UInt64, total: UInt64) {
    (rowsRead, estimate == 0 ? 0 : max(estimate, rowsRead))
  }
  public private(set) var relation = Relation(id: 0, schema: "", table: "", columns: [])

  /// The ending of the connection is all there is to do.
  public func finish(flushed: LSN, deadline: MonotonicTime) {}

  public func report(flushed: LSN, now: MonotonicTime) throws(RelayError) {
    turn = now
    places.forget(before: flushed)
    if let end = watcher?.end() { throw end }
    if wantsWrite { try flush() }
  }

  public func position(after checkpoint: LSN) -> String? {
    places.position(after: checkpoint) { index, place in
      let shape = shapes[index]
      return place.text(
        table: "\(shape.schema).\(shape.table)", storage: storage(of: shape), horizon: server.horizon)
    }
  }
}

// From row to row.
extension TableSource {
  /// - Throws: `sourceUnavailable` when the connection is gone, `sourceDenied`, `tableUnsuitable`, as the server says.
  public func next() throws(RelayError) -> Change? {
    while !isAtEnd {
      if let batch, try skipStreamed(batch) { return try step(batch) }
      // A batch ends a transaction: a stop then finds nothing half done while the next one is waited for.
      if isInTransaction { return try commit() }
      batch = nil
      guard try receive() else { return nil }
    }
    return nil
  }

  private func step(_ batch: TableBatch) throws(RelayError) -> Change {
    let shape = shapes[tableIndex]
    if !isAnnounced {
      isAnnounced = true
      relation = shape.relation
      return .relation
    }
    if isInTransaction, isLongEnough { return try commit() }
    if !isInTransaction {
      isInTransaction = true
      rowsInTransaction = 0
      transactionStart = turn
      number += 1
      return .begin(commitLSN: LSN(number), commitTime: .unknown, transactionID: 0)
    }
    rowsInTransaction += 1
    for (index, column) in shape.columns.enumerated() {
      // SAFETY: the buffer has room for the widest shape's columns.
      values[index] = batch.value(row, index, isText: !column.hasBinaryForm)
      receivedBytes &+= UInt64(values[index].bytes.count)
    }
    var isCertain = counts[tableIndex].gap == nil
    if !isCertain, shape.streamStart(range) != nil { isCertain = try batch.isCertain(row) }
    if !isCertain {
      counts[tableIndex].doubtful += 1
    } else {
      counts[tableIndex].certain += 1
    }
    row += 1
    rowsRead += 1
    // SAFETY: the first columns.count values were set just now.
    let view = UnsafeBufferPointer(rebasing: values[..<shape.columns.count])
    return .insert(RowView(relationID: shape.oid, values: view))
  }

  private var isLongEnough: Bool {
    rowsInTransaction >= Tuning.Tables.transactionRows
      || rowsInTransaction > 0
        && turn >= transactionStart.advanced(milliseconds: Tuning.Tables.transactionMilliseconds)
  }

  /// Goes past rows that the stream has. False: none is left in the batch.
  private func skipStreamed(_ batch: TableBatch) throws(RelayError) -> Bool {
    guard let streamed, shapes[tableIndex].streamStart(range) != nil else { return row < batch.count }
    while row < batch.count, try !batch.isCertain(row), holds(streamed, batch) {
      row += 1
      rowsRead += 1
      counts[tableIndex].streamed += 1
    }
    return row < batch.count
  }

  private func holds(_ streamed: StreamedRows, _ batch: TableBatch) -> Bool {
    let shape = shapes[tableIndex]
    guard !keys[tableIndex].isEmpty else { return false }
    return streamed.holds(
      RowKey(outboxHashes[tableIndex], keys[tableIndex]) {
        batch.value(row, $0, isText: !shape.columns[$0].hasBinaryForm)
      })
  }

  private func commit() throws(RelayError) -> Change {
    isInTransaction = false
    tally.update(tableIndex, counts[tableIndex])
    if let batch {
      let place = try batch.place(row - 1, query(shapes[tableIndex]))
      // Rows that were written since the interruption may stand before its place.
      let isBefore = startPlace.map { !place.isAfter($0.place) } ?? false
      places.append(LSN(number), tableIndex, isBefore ? nil : place)
    }
    return .commit(commitLSN: LSN(number), endLSN: LSN(number), commitTime: .unknown)
  }

  fileprivate func query(_ shape: TableShape) -> TableQuery {
    TableQuery(
      shape: shape, range: range, tracksCommitTimes: server.tracksCommitTimes,
      nextTransaction: server.nextTransaction)
  }
}

// The cursors.
extension TableSource {
  /// Goes to the place of an interrupted read. The tables before it have been read, as long as they are the same ones.
  func go(to position: String, log: Log) throws(RelayError) {
    guard let parsed = TablePlace.parse(position) else {
      throw RelayError(
        .usage, "\"\(position)\" is not a position in the configured tables",
        remedy: "Start again without --resume.")
    }
    guard let index = shapes.firstIndex(where: { storage(of: $0) == parsed.storage }) else {
      log.notice(
        "the tables were rewritten, or other tables are configured: reading all of them from the beginning",
        ("table", parsed.table))
      return
    }
    tableIndex = index
    startPlace = parsed
    places = TablePlaces(start: position)
  }

  /// Where a table's rows are, and which tables are read before it.
  private func storage(of shape: TableShape) -> String {
    // FNV-1a.
    var digest: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in shapes.map({ String($0.oid) }).joined(separator: ",").utf8 {
      digest = (digest ^ UInt64(byte)) &* 0x100_0000_01B3
    }
    return shape.storage + "." + String(digest, radix: 16)
  }

  func begin() throws(RelayError) {
    guard PQsetnonblocking(connection.handle, 1) == 0 else { throw connection.lost() }
    try lock()
  }

  private func lock() throws(RelayError) {
    guard tableIndex < shapes.count else {
      request = .end
      return try ask("COMMIT")
    }
    let close = if case .none = request { "" } else { "CLOSE outboxd_rows; " }
    request = .lock
    try ask(close + TableAccess.lock(shapes[tableIndex]))
  }

  private func declare() throws(RelayError) {
    let shape = shapes[tableIndex]
    let select = query(shape).select(after: startPlace)
    request = .declare
    isAnnounced = false
    batchSize = Tuning.Tables.firstBatch
    try ask("DECLARE outboxd_rows NO SCROLL CURSOR FOR \(select); \(shape.check)")
  }

  private func fetch() throws(RelayError) {
    request = .fetch(batchSize)
    // SAFETY: no parameters, hence no arrays; 1 asks for binary values.
    guard
      PQsendQueryParams(
        connection.handle, "FETCH FORWARD \(batchSize) FROM outboxd_rows", 0, nil, nil, nil, nil, 1) == 1
    else { throw connection.lost() }
    try flush()
  }

  private func ask(_ sql: String) throws(RelayError) {
    guard PQsendQuery(connection.handle, sql) == 1 else { throw connection.lost() }
    try flush()
  }

  private func flush() throws(RelayError) {
    let result = PQflush(connection.handle)
    guard result >= 0 else { throw connection.lost() }
    wantsWrite = result == 1
  }

  /// Takes the answer to what was asked for, if it is there, and asks for the next. False: there is none yet.
  private func receive() throws(RelayError) -> Bool {
    while try isReady() {
      guard let result = PQgetResult(connection.handle) else {
        let complete = answer
        answer = nil
        try handle(complete)
        return true
      }
      let status = PQresultStatus(result)
      guard status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK else {
        // SAFETY: the result is this function's own.
        defer { PQclear(result) }
        throw refused(connection.error(of: result, phase: .rows(tableName)))
      }
      answer = TableBatch(result)
    }
    return false
  }

  /// True where PQgetResult does not block.
  private func isReady() throws(RelayError) -> Bool {
    // An encrypted connection may hold a record of 16 KiB in a buffer of its own: one read more finds it.
    for _ in 0..<3 {
      if PQisBusy(connection.handle) == 0 { return true }
      guard PQconsumeInput(connection.handle) == 1 else { throw connection.lost() }
    }
    return PQisBusy(connection.handle) == 0
  }

  private func handle(_ answer: TableBatch?) throws(RelayError) {
    switch request {
    case .none: break
    case .end:
      isAtEnd = true
      watcher = nil
    case .lock:
      try access.require(shapes[tableIndex])
      try declare()
    case .declare:
      // A name stands for another table at any time, and only here it is known which one is read.
      guard answer?.isTrue == true else { throw TableAccess.replaced(shapes[tableIndex]) }
      try fetch()
    case .fetch(let asked):
      guard let answer, answer.count > 0 else {
        tally.update(tableIndex, counts[tableIndex])
        tableIndex += 1
        startPlace = nil
        return try lock()
      }
      batch = answer
      row = 0
      batchSize = max(
        1,
        min(
          Tuning.Tables.largestBatch, asked * 4,
          Tuning.Tables.batchBytes * answer.count / max(1, answer.bytes)))
      // The server gets the next ones together while these are sent.
      try fetch()
    }
  }

  /// Of the table that is being read, for messages.
  private var tableName: String {
    shapes.indices.contains(tableIndex) ? shapes[tableIndex].qualifiedName : ""
  }

  private func refused(_ error: RelayError) -> RelayError {
    if TableAccess.isReplacement(error), shapes.indices.contains(tableIndex) {
      return TableAccess.replaced(shapes[tableIndex])
    }
    guard error.code == "42501" else { return error }
    var error = error
    error.kind = .sourceDenied
    error.remedy = "Grant SELECT on the table to the role, and BYPASSRLS where it has row security policies."
    return error
  }
}
