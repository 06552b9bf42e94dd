// Owns: what the database's settings, and the data that its tables allow, can do to the relay. Pure.
// Must not know: how the facts were read.
import RelayCore

extension StartDecision {
  /// Rows that never reach the WAL never reach Kafka.
  var unloggedFault: RelayError? {
    for table in facts.tables {
      guard let partition = table.unloggedPartitions.first else { continue }
      return RelayError(
        .tableUnsuitable,
        "the partition \(partition) of \(QualifiedName.text(table.schema, table.name)) is unlogged: its rows are not in the WAL",
        remedy: "ALTER TABLE \(partition) SET LOGGED; or detach it. outboxd recover --tables publishes "
          + "the rows that it has already.")
    }
    return nil
  }

  /// What may stay as it is, and may one day halt the relay or a job.
  var forecast: [Finding] {
    [poolerFinding, encodingFinding, idleFinding].compactMap(\.self)
      + facts.tables.flatMap { [securityFinding($0), identityFinding($0)].compactMap(\.self) }
      + mappings.compactMap(nullFinding)
  }

  private var poolerFinding: Finding? {
    guard facts.isPooled else { return nil }
    return Finding(
      message:
        "a connection pooler or proxy is between outboxd and Postgres: settings of a session may be lost or "
        + "reach other clients", remedy: PostgresFailure.directly)
  }

  /// Encodings of which every character has an equivalent in UTF-8.
  private static let harmlessEncodings: Set<String> = [
    "UTF8", "LATIN1", "LATIN2", "LATIN4", "LATIN5", "LATIN9", "ISO_8859_5", "KOI8R",
  ]

  private var encodingFinding: Finding? {
    guard !Self.harmlessEncodings.contains(facts.encoding) else { return nil }
    let halt = "halts the relay (exit code \(RelayError.Kind.rowRejected.exitCode))"
    if facts.encoding == "SQL_ASCII" {
      return Finding(
        message:
          "the database has the encoding SQL_ASCII, which checks nothing: text that is not valid UTF-8, in any "
          + "column of an outbox, \(halt)",
        remedy: "Have the writers store valid UTF-8, or move the outbox to a database of encoding UTF8.")
    }
    return Finding(
      level: .notice,
      message:
        "the database has the encoding \(facts.encoding): a character that has no equivalent in UTF-8, in any "
        + "column of an outbox, \(halt)",
      remedy: "Keep such characters out of the outbox, or move it to a database of encoding UTF8.")
  }

  private var idleFinding: Finding? {
    guard facts.idleSlotTimeout > 0 else { return nil }
    return Finding(
      message: "the server invalidates a slot that nobody has streamed from for \(facts.idleSlotTimeout) s "
        + "(idle_replication_slot_timeout): when outboxd is stopped for longer, it loses its place",
      remedy: "ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf();")
  }

  private func securityFinding(_ table: TableFacts) -> Finding? {
    guard table.hasRowSecurity, table.isReadable else { return nil }
    return Finding(
      message:
        "row security policies of \(QualifiedName.text(table.schema, table.name)) apply to the role: streaming works, but "
        + "replay, backfill and recover from the tables are refused (exit code "
        + "\(RelayError.Kind.sourceDenied.exitCode))",
      remedy: "ALTER ROLE … BYPASSRLS;")
  }

  private func identityFinding(_ table: TableFacts) -> Finding? {
    guard let publication = facts.publication, !table.hasReplicaIdentity,
      publication.publishesUpdates || publication.publishesDeletes
    else { return nil }
    return Finding(
      message:
        "\(QualifiedName.text(table.schema, table.name)) has no primary key or other replica identity, and publication "
        + "\"\(settings.publication)\" publishes updates or deletes: UPDATE and DELETE of the table fail",
      remedy:
        "Stop outboxd; ALTER PUBLICATION \(SQLText.identifier(settings.publication)) SET (publish = 'insert'); "
        + "outboxd recover; outboxd run.")
  }

  /// Columns whose NULL the relay halts at, and that the table does not keep from being NULL.
  private func nullFinding(_ mapping: OutboxMapping) -> Finding? {
    guard let table = facts.table(mapping.schema, mapping.table), let relation = facts.published(mapping),
      let uses = try? MappingCheck.inspect(mapping, relation: relation, database: facts.database).uses
    else { return nil }
    var names: [String] = []
    for use in uses where use.isRequired && !names.contains(use.column) {
      if table.columns.contains(where: { $0.name == use.column && $0.isNullable }) {
        names.append(use.column)
      }
    }
    guard !names.isEmpty else { return nil }
    let alter = names.map { "ALTER COLUMN \(SQLText.identifier($0)) SET NOT NULL" }.joined(separator: ", ")
    return Finding(
      level: .notice,
      message:
        "a row of \(mapping.qualifiedName) with a NULL in \(names.joined(separator: ", ")) would halt the relay "
        + "(exit code \(RelayError.Kind.rowRejected.exitCode)), and the table allows it",
      remedy: "ALTER TABLE \(SQLText.qualified(mapping.schema, mapping.table)) \(alter);")
  }
}
