// Owns: the topics that the rows of a table would go to, for a command that asks before the relay runs.
// Must not know: how rows are read.

/// The topics that the relay would send the rows of a table to.
public struct TopicCheck: ~Copyable {
  private let plan: RowPlan
  private var arena = ByteArena()
  /// Indexes of the relation's columns that a topic is made of.
  public let columns: [Int]

  /// - Throws: as `MappingCheck.inspect`.
  public init(mapping: OutboxMapping, relation: Relation, database: String) throws(RelayError) {
    plan = try RowPlan(mapping: mapping, relation: relation, database: database)
    columns = plan.topic.columns.map(\.index)
  }

  /// - Parameter values: one for each column of the relation; those that are not among `columns` are not read.
  /// - Returns: nil where a column is NULL. It need not be a topic's name.
  /// - Throws: `rowRejected` where a value has no text.
  public mutating func topic(_ values: [ColumnValue]) throws(RelayError) -> String? {
    arena.reset()
    do throws(RowFault) {
      return try values.withUnsafeBufferPointer { (values) throws(RowFault) -> String? in
        try plan.topic.text(RowView(relationID: plan.relation.id, values: values), &arena)
          .map { String(decoding: $0, as: UTF8.self) }
      }
    } catch {
      throw RelayError(
        .rowRejected,
        "a row of \(plan.mapping.qualifiedName) cannot become an event: \(error.part): \(error.reason)",
        remedy: error.remedy)
    }
  }
}
