// Owns: the topics that a table's present rows would go to, for a check before the relay runs.
// Must not know: how topics are made of rows.
import CLibpq
public import RelayCore

public enum TopicSample {
  /// Rows that are read, from the table's beginning, and topics that are returned.
  static let rowLimit = 10_000
  static let topicLimit = 50

  /// The topics of some rows of the table, as the relay makes them. Empty for an empty table.
  /// - Throws: what `TableAccess.require` does; `rowRejected` at a row of which no topic can be made; what a connection
  ///   throws.
  public static func read(
    _ mapping: OutboxMapping, facts: ServerFacts, settings: PostgresSettings, stop: StopSignal
  ) throws(RelayError) -> [String] {
    let table = try LockedTable(
      mapping, facts.publication, settings: settings.on(facts.server), timeout: 10, stop: stop)
    var check = try TopicCheck(mapping: mapping, relation: table.shape.relation, database: facts.database)
    let columns = check.columns
    let list = columns.map { TableQuery.value(table.shape.columns[$0]) }.joined(separator: ", ")
    let connection = table.connection
    // SAFETY: no parameters, hence no arrays; 1 asks for binary values.
    guard
      PQsendQueryParams(
        connection.handle, "SELECT \(list) FROM \(TableQuery.relation(table.shape)) o LIMIT \(rowLimit)", 0,
        nil, nil, nil,
        nil, 1) == 1
    else { throw connection.lost() }
    var topics: [String] = []
    var known: Set<String> = []
    let none = ColumnValue(format: .null, bytes: LentBytes(start: nil, count: 0))
    var values = [ColumnValue](repeating: none, count: table.shape.columns.count)
    while let result = try connection.nextResult(
      deadline: MonotonicTime.now().advanced(milliseconds: SQLConnection.defaultTimeout))
    {
      guard PQresultStatus(result) == PGRES_TUPLES_OK else {
        // SAFETY: the result is this function's own.
        defer { PQclear(result) }
        throw connection.error(of: result, phase: .rows(mapping.qualifiedName))
      }
      let batch = TableBatch(result)
      for row in 0..<batch.count where topics.count < topicLimit {
        for (index, column) in columns.enumerated() {
          values[column] = batch.value(row, index, isText: !table.shape.columns[column].hasBinaryForm)
        }
        // A row whose topic has a NULL in it is one that the relay rejects, and says so.
        if let topic = try check.topic(values), known.insert(topic).inserted { topics.append(topic) }
      }
    }
    return topics
  }
}
