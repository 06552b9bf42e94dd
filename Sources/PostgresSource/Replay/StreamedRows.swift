// Owns: reading from the WAL which rows the stream has, through a temporary copy of a slot.
// Must not know: what is read from the tables, and why.
import Glibc
import RelayCore

/// Confined to one thread. Nothing is moved, and the copy goes with its connection.
struct StreamedRowsReader {
  let settings: PostgresSettings
  let reads: [TableRead]
  let shapes: [TableShape]
  let stop: StopSignal
  let log: Log
  var limit = StreamedRows.limit

  /// What the stream has of a range's rows; nil where that is of no interest.
  /// - Throws: as `read`.
  func rows(
    of range: TableRange, visibleTo reader: SQLConnection
  ) throws(RelayError) -> StreamedRows? {
    guard let start = shapes.compactMap({ $0.streamStart(range) }).min() else { return nil }
    let rows = try read(from: start, visibleTo: reader)
    for shape in shapes {
      guard let gap = shape.streamStart(range).flatMap(rows.gap(since:)) else { continue }
      log.warning(
        "cannot tell for all rows of the table whether the stream sends them; those in doubt are sent too",
        ("table", QualifiedName.text(shape.schema, shape.table)), ("reason", gap))
    }
    return rows
  }

  /// Every row that was inserted by a transaction which committed at `start` or later and is visible to `reader`,
  /// as far as the WAL has it and there is room.
  /// - Parameter reader: in its transaction, whose snapshot has been taken.
  /// - Throws: `interrupted`, and `sourceUnavailable` where the connection is lost. What is no longer available is a gap.
  func read(from start: LSN, visibleTo reader: SQLConnection) throws(RelayError) -> StreamedRows {
    var rows = StreamedRows()
    do throws(RelayError) {
      try read(from: start, visibleTo: reader, into: &rows)
    } catch {
      // A free slot may be lacking, the WAL be gone, or the publication too young: the rows are then in doubt.
      guard error.kind != .interrupted, error.kind != .sourceUnavailable || error.code != nil else {
        throw error
      }
      rows.fault = error.message
    }
    return rows
  }

  private func read(
    from start: LSN, visibleTo reader: SQLConnection, into rows: inout StreamedRows
  ) throws(RelayError) {
    if let shape = shapes.first(where: { $0.keyColumns.isEmpty }) {
      rows.fault =
        "the publication leaves out columns that identify the rows of \(QualifiedName.text(shape.schema, shape.table))"
    }
    let end = try flushed(reader)
    let watcher = try ReplicationConnection(settings, stop: stop)
    let inspector = SlotInspector(connection: watcher.sql, settings: settings)
    let names = [settings.slot, ReplaySlots.anchor(of: settings.slot)]
    guard let source = try Self.best(names, inspector, start) else {
      rows.fault = "no slot has the WAL from \(start) on"
      return
    }
    var temporary = settings
    temporary.slot = ReplaySlots.temporary(of: settings.slot)
    let connection = try ReplicationConnection(temporary, stop: stop)
    let identity = try connection.identifySystem()
    try connection.copySlot(source, to: temporary.slot)
    guard let first = try inspector.slot(named: temporary.slot)?.confirmedFlushLSN else {
      rows.fault = "the copy of slot \"\(source)\" has no position"
      return
    }
    (rows.from, rows.slot) = (first, source)
    let origin = max(start, first)
    guard end > origin else { return }
    let facts = try inspector.serverFacts(identity)
    log.info(
      "reading from the WAL which rows the stream will send", ("slot", temporary.slot), ("from", "\(origin)"),
      ("to", "\(end)"))
    try connection.start(at: origin)
    let stream = ReplicationStream(
      connection, facts: facts, settings: temporary, mappings: reads.map(\.mapping), startLSN: origin,
      walEnd: identity.walEnd, keeper: nil)
    let range = RangeStream(stream, origin: origin, through: LSN(end.rawValue - 1), anchor: source)
    try collect(range, into: &rows)
    range.finish(flushed: .zero, deadline: MonotonicTime.now().advanced(milliseconds: 1_000))
    log.info("read from the WAL which rows the stream will send", ("rows", String(rows.keys.count)))
  }

  private func collect(_ range: RangeStream, into rows: inout StreamedRows) throws(RelayError) {
    var columns: [UInt32: (outbox: Int, columns: [Int])] = [:]
    while !range.isAtEnd {
      guard let change = try range.next() else {
        guard !range.isAtEnd else { return }
        try range.report(flushed: .zero, now: .now())
        let events = Int16(POLLIN) | (range.wantsWrite ? Int16(POLLOUT) : 0)
        let wake = min(range.reportTime, MonotonicTime.now().advanced(milliseconds: 1_000))
        _ = try SQLConnection.wait(range.descriptor, events, until: wake, stop: stop)
        continue
      }
      switch change {
      case .relation: columns[range.relation.id] = keyColumns(range.relation)
      case .insert(let row):
        guard let (outbox, columns) = columns[row.relationID] else { continue }
        guard rows.keys.count < limit else {
          rows.fault = "more than \(limit) rows were inserted since \(rows.from)"
          return
        }
        rows.add(RowKey(outbox, columns) { row.values[$0] })
      default: break
      }
      if MonotonicTime.now() >= range.reportTime { try range.report(flushed: .zero, now: .now()) }
    }
  }

  /// Where a table's key stands in the stream's shape of it, under whatever name it had there. Nil: it is not one of the
  /// tables, or lacked a column.
  private func keyColumns(_ relation: Relation) -> (outbox: Int, columns: [Int])? {
    guard let shape = shapes.first(where: { $0.oid == relation.id }), !shape.keyColumns.isEmpty else {
      return nil
    }
    let found = shape.keyColumns.map { name in relation.columns.firstIndex { $0.name == name } }
    return found.contains(nil) ? nil : (shape.outboxHash, found.compactMap(\.self))
  }

  /// The slot that has the WAL from `start` on, else the one that has the most of it.
  private static func best(
    _ names: [String], _ inspector: SlotInspector, _ start: LSN
  ) throws(RelayError) -> String? {
    var found: (name: String, position: LSN)?
    for name in names {
      guard let slot = try inspector.slot(named: name), slot.slotType == "logical", slot.plugin == "pgoutput",
        slot.walStatus != "lost", slot.invalidationReason == nil, slot.restartLSN != nil,
        let position = slot.confirmedFlushLSN
      else { continue }
      if position <= start { return name }
      if found.map({ position < $0.position }) ?? true { found = (name, position) }
    }
    return found?.name
  }

  /// The end of the WAL that holds the commit of everything that `reader` sees, once it is on the disk. A position to
  /// insert at lies behind the header of a new page, where what was flushed ends before it.
  private func flushed(_ reader: SQLConnection) throws(RelayError) -> LSN {
    var goal: LSN?
    while true {
      let result = try reader.query(
        """
        SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END AS goal,
          CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END AS flushed
        """)
      guard let inserted = result[0, "goal"].flatMap({ LSN($0) }),
        let flushed = result[0, "flushed"].flatMap({ LSN($0) })
      else { throw RelayError(.failed, "the server did not return the end of its WAL") }
      let end = goal ?? inserted
      goal = end
      if flushed >= end || (flushed.rawValue % 8_192 == 0 && end.rawValue - flushed.rawValue <= 40) {
        return flushed
      }
      if stop.wait(milliseconds: 20) { throw RelayError(.interrupted, "interrupted") }
    }
  }
}

extension ReplicationConnection {
  /// Nothing else runs on this connection: see `PostgresSource.open`. A temporary slot belongs to the session that
  /// makes it.
  func copySlot(_ source: String, to name: String) throws(RelayError) {
    try sql.query(
      "SELECT pg_catalog.pg_copy_logical_replication_slot(\(SQLText.literal(source)), \(SQLText.literal(name)), true)"
    )
  }
}
