// Owns: whether the rows of a stream would become events, without a record being sent.
// Must not know: where rows come from.

/// What the relay would make of the rows of a stream, without a record being sent.
public struct RowCheck: ~Copyable {
  private var encoder: EventEncoder

  public init(mappings: [OutboxMapping], database: String) {
    encoder = EventEncoder(mappings: mappings, database: database)
  }

  /// A table's shape has come.
  public mutating func prepare(_ relation: Relation) { encoder.prepare(relation) }

  /// - Throws: what the relay halts with at this row: `tableUnsuitable`, `publicationUnsuitable`, `rowRejected`,
  ///   `streamMalformed`.
  public mutating func check(
    _ row: RowView, commitLSN: LSN, commitTime: PostgresMicroseconds, index: RowIndex
  ) throws(RelayError) {
    _ = try encoder.encode(row, commitLSN: commitLSN, commitTime: commitTime, index: index)
  }
}
