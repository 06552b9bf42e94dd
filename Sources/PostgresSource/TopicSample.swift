// Owns: the topics that a table's present rows would go to, for a look before the relay runs.
// Must not know: how topics are made of rows otherwise.
public import RelayCore

public enum TopicSample {
  /// Rows that are looked at, from the table's beginning, and topics that are returned.
  static let rowLimit = 10_000
  static let topicLimit = 50

  /// The topics of some rows of the table. Empty for an empty table, and where the role may not read it.
  public static func read(
    _ parts: [MappingCheck.TopicPart], of mapping: OutboxMapping, settings: PostgresSettings, stop: StopSignal
  ) throws(RelayError) -> [String] {
    let connection = try SQLConnection(settings, applicationName: "outboxd check", stop: stop)
    let topic = parts.map { part in
      switch part {
      case .literal(let text): SQLText.literal(text)
      case .column(let name): "\(SQLText.identifier(name))::text"
      }
    }.joined(separator: " || ")
    guard !topic.isEmpty else { return [] }
    do throws(RelayError) {
      let result = try connection.query(
        """
        SELECT DISTINCT topic FROM (SELECT \(topic) AS topic
          FROM \(SQLText.qualified(mapping.schema, mapping.table)) LIMIT \(rowLimit)) AS sample
        WHERE topic IS NOT NULL LIMIT \(topicLimit)
        """, phase: .rows(mapping.qualifiedName))
      return result.rows.compactMap { $0.first ?? nil }
    } catch  where error.kind == .sourceDenied {
      return []
    }
  }
}
