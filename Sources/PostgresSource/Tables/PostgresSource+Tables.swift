// Owns: opening the tables of outboxes for one read: a session that may last, a snapshot that sees enough, the shapes.
// Must not know: how rows are read, Kafka, what an event is.
public import RelayCore

extension PostgresSource {
  /// Opens the tables of `mappings`: `openTables` of those that have their names.
  public static func openTables(
    _ range: TableRange, resume position: String?, settings: PostgresSettings, mappings: [OutboxMapping],
    tally: TableTally = TableTally(), stop: StopSignal, log: Log
  ) throws(RelayError) -> TableSource {
    try openTables(
      range, resume: position, settings: settings, reads: mappings.map { TableRead($0) }, tally: tally,
      stop: stop, log: log)
  }

  /// Opens the tables of outboxes, in their order, for reading once from beginning to end. The rows are those that
  /// exist now: what was deleted from a table cannot be read from it.
  /// - Parameter position: what `TableSource.position(after:)` said; nil for the beginning. Where a table's rows have
  ///   moved since (VACUUM FULL, a new partition), that table is read from its beginning.
  /// - Parameter tally: where rows are counted by their proof.
  /// - Throws: `sourceDenied` where the role may not read a table, `tableUnsuitable`, `usage` for a position that is
  ///   none, `sourceUnavailable`, `interrupted`.
  public static func openTables(
    _ range: TableRange, resume position: String?, settings: PostgresSettings, reads: [TableRead],
    tally: TableTally = TableTally(), stop: StopSignal, log: Log
  ) throws(RelayError) -> TableSource {
    let connection = try SQLConnection.reading(settings, applicationName: "outboxd tables", stop: stop)
    try allowLongReads(connection)
    let publication = try SlotInspector(connection: connection, settings: settings).publication()
    let catalog = TableCatalog(connection: connection, settings: settings, publication: publication)
    var shapes: [TableShape] = []
    while true {
      let before = try catalog.shapes(reads)
      // What was cut last waited for what the other snapshot has.
      try begin(on: connection, covering: range.covers ?? range.visibleIn, stop: stop, log: log)
      shapes = try catalog.shapes(reads)
      if shapes.map(\.fileNodes) == before.map(\.fileNodes) { break }
      try connection.query("ROLLBACK")
    }
    let server = try catalog.server()
    tally.dropped = try catalog.dropped(reads)
    let reader = StreamedRowsReader(settings: settings, reads: reads, shapes: shapes, stop: stop, log: log)
    let streamed = try reader.rows(of: range, visibleTo: connection)
    let watcher = try SQLConnection.reading(settings, applicationName: "outboxd watch", stop: stop)
    let access = TableAccess(
      catalog: TableCatalog(connection: watcher, settings: settings, publication: publication))
    let source = TableSource(
      connection, watcher: watcher, access: access, server: server, shapes: shapes, range: range,
      streamed: streamed, tally: tally)
    for count in tally.counts {
      log.notice("reading a table", ("table", count.table), ("order", count.order))
    }
    if let position { try source.go(to: position, log: log) }
    try source.begin()
    return source
  }

  /// A long read is no fault.
  private static func allowLongReads(_ connection: SQLConnection) throws(RelayError) {
    try connection.query(
      """
      SELECT set_config('statement_timeout', '0', false),
        set_config('idle_in_transaction_session_timeout', '0', false), set_config('lock_timeout', '10s', false)
      """)
    if connection.serverVersion >= 170_000 {
      try connection.query("SELECT set_config('transaction_timeout', '0', false)")
    }
    // A server on a system without the means refuses it; then a sort continues for a client that has gone.
    _ = try? connection.query("SELECT set_config('client_connection_check_interval', '5s', false)")
  }

  /// Begins the transaction that reads, once it sees every transaction that is visible in `snapshot`. A slot's
  /// snapshot comes from the WAL, where a commit stands before others see its rows: while the commit waits for a
  /// synchronous standby, for as long as that takes.
  private static func begin(
    on connection: SQLConnection, covering snapshot: String?, stop: StopSignal, log: Log
  ) throws(RelayError) {
    var hasTold = false
    while true {
      try connection.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
      guard let snapshot else { return }
      let unseen = try connection.query(
        """
        SELECT count(*) AS unseen FROM (SELECT pg_current_snapshot() AS here, \(SQLText.literal(snapshot))::pg_snapshot
          AS there) AS s, LATERAL (SELECT pg_snapshot_xip(here) UNION ALL
          SELECT i::text::xid8 FROM generate_series(
            pg_snapshot_xmax(here)::text::numeric, pg_snapshot_xmax(there)::text::numeric - 1) AS i) AS x (id)
        WHERE pg_visible_in_snapshot(id, there)
        """)[0, "unseen"]
      if unseen == "0" { return }
      if !hasTold {
        hasTold = true
        log.notice(
          "waiting for committed transactions that wait for a synchronous standby",
          ("transactions", unseen ?? ""))
      }
      try connection.query("ROLLBACK")
      if stop.wait(milliseconds: 50) { throw RelayError(.interrupted, "interrupted") }
    }
  }
}
