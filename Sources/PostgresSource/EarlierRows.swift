// Owns: whether tables that joined the publication after the slot began have rows from before, which nobody published.
// Must not know: how they are published.
public import RelayCore

struct EarlierRows {
  let connection: SQLConnection
  let facts: ServerFacts
  let slot: String

  /// What ought to be known of the outboxes. A table is looked at for two seconds at most.
  func findings(_ mappings: [OutboxMapping]) throws(RelayError) -> [StartDecision.Finding] {
    var findings: [StartDecision.Finding] = []
    for mapping in mappings {
      guard let table = facts.table(mapping.schema, mapping.table),
        let start = facts.ownStart(of: table.oid), try !isBackfilled(table.oid, start)
      else { continue }
      let has: String
      switch try rows(table, before: start) {
      case .none: continue
      case .some: has = "it has rows"
      case .unknown: has = "it may have rows"
      }
      let place = start.lsn == .zero ? "" : ", later than \(start.lsn)"
      findings.append(
        StartDecision.Finding(
          message:
            "\(mapping.qualifiedName) joined the publication after the slot began\(place), and \(has) from "
            + "before that, which are not published",
          remedy: "To publish them: outboxd backfill --outbox \(mapping.qualifiedName)", isNotice: true))
    }
    return findings
  }

  /// A backfill of the whole table from this start has come to its end.
  private func isBackfilled(_ oid: UInt32, _ start: PublicationRecord.Start) throws(RelayError) -> Bool {
    guard facts.journal.isInUse else { return false }
    return try connection.query(
      """
      SELECT count(*) AS jobs FROM outboxd.job WHERE slot = \(SQLText.literal(slot)) AND command = 'backfill'
        AND finished_at IS NOT NULL AND events > 0 AND request->>'file' IS NULL AND request->>'topic' IS NULL
        AND request->'tables' @> '[{"oid": \(oid), "starts": [{"oid": \(oid), "lsn": "\(start.lsn)"}]}]'
        AND '[]' = ALL (ARRAY[request->'aggregatetypes', request->'subjects', request->'types', request->'ids'])
      """)[0, "jobs"] != "0"
  }

  private enum Rows { case none, some, unknown }

  private func rows(
    _ table: TableFacts, before start: PublicationRecord.Start
  ) throws(RelayError) -> Rows {
    let history = CheckpointHistory(
      connection: connection, slot: slot, systemIdentifier: facts.systemIdentifier, timeline: facts.timeline)
    let end = facts.journal.isInUse ? try history.endTransaction(through: start.by) : nil
    let name = SQLText.qualified(table.schema, table.name)
    do throws(RelayError) {
      try connection.query("BEGIN READ ONLY")
      try connection.query("SELECT set_config('statement_timeout', '2s', true)")
      let next = try connection.query("SELECT pg_snapshot_xmax(pg_current_snapshot()) AS next")[0, "next"]
      func exist(below transaction: UInt64?) -> String {
        let id = "o.xmin::text::bigint"
        let full = TableQuery.fullTransaction(id, next: next.flatMap { UInt64($0) } ?? 3)
        let condition = transaction.map { "\(id) < 3 OR \(full) < \($0)" } ?? "true"
        return "EXISTS (SELECT FROM \(table.kind == "p" ? "" : "ONLY ")\(name) o WHERE \(condition))"
      }
      let result = try connection.query(
        """
        SELECT \(exist(below: start.snapshot.flatMap(HistoryRow.lowest) ?? 0)) AS certain,
          \(exist(below: end)) AS possible
        """)
      try connection.query("ROLLBACK")
      if result[0, "certain"] == "t" { return .some }
      return result[0, "possible"] == "t" ? .unknown : .none
    } catch {
      // Not granted, or too large.
      guard error.code != nil else { throw error }
      try connection.query("ROLLBACK")
      return .unknown
    }
  }
}

extension PostgresSource {
  /// What ought to be known of rows from before an outbox joined the publication.
  /// - Throws: what a connection throws.
  public static func earlierRows(
    _ facts: ServerFacts, settings: PostgresSettings, mappings: [OutboxMapping], stop: StopSignal
  ) throws(RelayError) -> [StartDecision.Finding] {
    let connection = try SQLConnection(settings, applicationName: "outboxd check", stop: stop)
    return try EarlierRows(connection: connection, facts: facts, slot: settings.slot).findings(mappings)
  }
}
