// Owns: whether a mapping fits a table, for commands that look before the relay runs.
// Must not know: where the table's shape comes from.

public enum MappingCheck {
  /// What a mapping comes to on a table.
  public struct Result: Equatable, Sendable {
    /// The topic where it is the same for every row.
    public var constantTopic: String?
    /// The columns that are read. A column may have several uses.
    public var uses: [ColumnUse]
  }

  /// What a column is read for.
  public struct ColumnUse: Equatable, Sendable {
    /// `id`, `time`, `topic`, `extension NAME` and so on.
    public var part: String
    public var column: String
    /// A row with a NULL in it cannot become an event.
    public var isRequired: Bool
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
      uses: uses(plan))
  }

  private static func uses(_ plan: RowPlan) -> [ColumnUse] {
    var uses: [ColumnUse] = []
    func add(_ part: String, _ columns: [ColumnSource?], isRequired: Bool = false) {
      for case let column? in columns {
        uses.append(
          ColumnUse(part: part, column: plan.relation.columns[column.index].name, isRequired: isRequired))
      }
    }
    add("id", [plan.id], isRequired: true)
    add("type", [plan.type], isRequired: true)
    add("payload", [plan.payload])
    add("source", plan.source.columns, isRequired: true)
    add("topic", plan.topic.columns, isRequired: true)
    add("key", plan.key?.columns ?? [], isRequired: !plan.isKeyOptional)
    add("subject", [plan.subject])
    add("time", [plan.time])
    add("headers", [plan.headers])
    add("datacontenttype", [plan.datacontenttype])
    add("dataschema", plan.dataschema?.columns ?? [])
    add("aggregatetype", [plan.aggregatetype])
    for item in plan.extensions { add("extension", [item.source]) }
    return uses
  }
}
