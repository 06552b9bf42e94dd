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
    func add(_ part: String, _ source: RowPlan.Source?, isRequired: Bool = false) {
      guard let source else { return }
      uses.append(
        ColumnUse(part: part, column: plan.relation.columns[source.index].name, isRequired: isRequired))
    }
    func add(_ part: String, _ text: RowPlan.Text?, isRequired: Bool) {
      for case .column(let source) in text?.segments ?? UnsafeBufferPointer(start: nil, count: 0) {
        add(part, source, isRequired: isRequired)
      }
    }
    add("id", plan.id, isRequired: true)
    add("type", plan.type, isRequired: true)
    add("payload", plan.payload)
    add("source", plan.source, isRequired: true)
    add("topic", plan.topic, isRequired: true)
    add("key", plan.key, isRequired: !plan.isKeyOptional)
    add("subject", plan.subject)
    add("time", plan.time)
    add("headers", plan.headers)
    add("datacontenttype", plan.datacontenttype)
    add("dataschema", plan.dataschema, isRequired: false)
    add("aggregatetype", plan.aggregatetype)
    for item in plan.extensions { add("extension", item.source) }
    return uses
  }
}

/// The topics that the relay would send the rows of a table to.
public struct TopicCheck: ~Copyable {
  private let plan: RowPlan
  private var encoder: EventEncoder
  /// Indexes of the relation's columns that a topic is made of.
  public let columns: [Int]

  /// - Throws: as `MappingCheck.inspect`.
  public init(mapping: OutboxMapping, relation: Relation, database: String) throws(RelayError) {
    plan = try RowPlan(mapping: mapping, relation: relation, database: database)
    encoder = EventEncoder(mappings: [mapping], database: database)
    columns = plan.topic.segments.compactMap {
      if case .column(let source) = $0 { source.index } else { nil }
    }
  }

  /// - Parameter values: one for each column of the relation; those that are not among `columns` are not read.
  /// - Returns: nil where a column is NULL. It need not be a topic's name.
  /// - Throws: `rowRejected` where a value has no text.
  public mutating func topic(_ values: [ColumnValue]) throws(RelayError) -> String? {
    encoder.arena.reset()
    do throws(RowFault) {
      return try values.withUnsafeBufferPointer { (values) throws(RowFault) -> String? in
        try encoder.render(plan.topic, RowView(relationID: 0, values: values), "topic")
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
    _ row: RowView, commitLSN: LSN, commitTime: PostgresMicroseconds, index: UInt32
  ) throws(RelayError) {
    _ = try encoder.encode(row, commitLSN: commitLSN, commitTime: commitTime, index: index)
  }
}
