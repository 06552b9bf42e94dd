// Owns: whether tables that joined the publication after the slot began have rows from before, which nobody published.
// Must not know: how they are published.
public import RelayCore

struct EarlierRows {
  /// Of the journal.
  let connection: SQLConnection
  let facts: ServerFacts
  let settings: PostgresSettings
  private var slot: String { settings.slot }

  init(connection: SQLConnection, facts: ServerFacts, settings: PostgresSettings) {
    self.connection = connection
    self.facts = facts
    self.settings = settings.on(facts.server)
  }

  /// What ought to be known of the outboxes. A table is read for two seconds at most.
  func findings(_ mappings: [OutboxMapping]) throws(RelayError) -> [Finding] {
    var findings: [Finding] = []
    for mapping in mappings {
      guard let table = facts.table(mapping.schema, mapping.table),
        let start = facts.ownStart(of: table.oid), try !isBackfilled(table.oid, start)
      else { continue }
      let has: String
      var note = ""
      switch try rows(mapping, table, before: start) {
      case .none: continue
      case .some: has = "it has rows"
      case .unknown: has = "it may have rows"
      case .notExamined(let reason):
        has = "it may have rows"
        note = ". Its rows were not examined: \(reason)"
      }
      let place = start.lsn == .zero ? "" : ", later than \(start.lsn)"
      findings.append(
        Finding(
          level: .notice,
          message:
            "\(mapping.qualifiedName) joined the publication after the slot began\(place), and \(has) from "
            + "before that, which have not been published\(note)",
          remedy: "To publish them: outboxd backfill --outbox \(mapping.qualifiedName)"))
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

  private enum Rows { case none, some, unknown, notExamined(String) }

  private func rows(
    _ mapping: OutboxMapping, _ table: TableFacts, before start: PublicationRecord.Start
  ) throws(RelayError) -> Rows {
    let history = CheckpointHistory(
      connection: connection, slot: slot, systemIdentifier: facts.systemIdentifier, timeline: facts.timeline)
    let end = facts.journal.isInUse ? try history.endTransaction(through: start.by) : nil
    let name = SQLText.qualified(table.schema, table.name)
    do throws(RelayError) {
      let reader = try LockedTable(
        mapping, facts.publication, settings: settings, timeout: 2, stop: connection.stop
      ).connection
      let next = try reader.query("SELECT pg_snapshot_xmax(pg_current_snapshot()) AS next")[0, "next"]
      func exist(below transaction: UInt64?) -> String {
        let id = "o.xmin::text::bigint"
        let full = TableQuery.fullTransaction(id, next: next.flatMap { UInt64($0) } ?? 3)
        let condition = transaction.map { "\(id) < 3 OR \(full) < \($0)" } ?? "true"
        return "EXISTS (SELECT FROM \(table.kind == "p" ? "" : "ONLY ")\(name) o WHERE \(condition))"
      }
      let result = try reader.query(
        """
        SELECT \(exist(below: start.snapshot.flatMap(HistoryRow.lowest) ?? 0)) AS certain,
          \(exist(below: end)) AS possible
        """)
      if result[0, "certain"] == "t" { return .some }
      return result[0, "possible"] == "t" ? .unknown : .none
    } catch {
      // Not granted, too large, or unsuitable: what only inspects stops nothing.
      if error.kind == .interrupted { throw error }
      return .notExamined(error.message)
    }
  }
}

extension PostgresSource {
  /// What ought to be known of rows from before an outbox joined the publication.
  /// - Throws: what a connection throws.
  public static func earlierRows(
    _ facts: ServerFacts, settings: PostgresSettings, mappings: [OutboxMapping], stop: StopSignal
  ) throws(RelayError) -> [Finding] {
    let connection = try SQLConnection(settings, applicationName: "outboxd check", stop: stop)
    return try EarlierRows(connection: connection, facts: facts, settings: settings).findings(mappings)
  }
}
