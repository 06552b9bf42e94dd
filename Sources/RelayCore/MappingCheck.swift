// Owns: whether a mapping fits a table, for commands that look before the relay runs.
// Must not know: where the table's shape comes from.

public enum MappingCheck {
  /// What a mapping comes to on a table.
  public struct Result: Equatable, Sendable {
    /// The topic where it is the same for every row.
    public var constantTopic: String?
    /// The topic's parts otherwise: literal text, and names of columns.
    public var topicParts: [TopicPart]
  }

  public enum TopicPart: Equatable, Sendable {
    case literal(String)
    case column(String)
  }

  /// - Throws: `tableUnsuitable` or `configurationInvalid`, as the relay would at the table's first row.
  public static func inspect(
    _ mapping: OutboxMapping, relation: Relation, database: String
  ) throws(RelayError) -> Result {
    let plan = try RowPlan(mapping: mapping, relation: relation, database: database)
    // What the plan lends goes with it.
    defer { withExtendedLifetime(plan) {} }
    return Result(
      constantTopic: plan.topic.constant.map { String(decoding: $0, as: UTF8.self) },
      topicParts: plan.topic.segments.map { segment in
        switch segment {
        case .literal(let bytes): .literal(String(decoding: bytes, as: UTF8.self))
        case .column(let source): .column(relation.columns[source.index].name)
        }
      })
  }
}
