// Owns: the binding of a mapping to one shape of a table: column indexes, literals, constants.
// Must not know: the values of a row, but for the one that led to the last topic.

/// Compiled once for each Relation message, used for each row.
final class RowPlan {
  // What rows look at holds no reference: to copy it costs no retain.

  /// An extension attribute from a column.
  struct Extension {
    var source: ColumnSource
    /// The column's name, for messages.
    var column: String
    var name: LentBytes
    /// As `EventShape` puts it.
    var nameInMessage: LentBytes
  }

  let mapping: OutboxMapping
  let relation: Relation
  let shape: EventShape
  let id: ColumnSource
  let type: ColumnSource
  let payload: ColumnSource
  let subject: ColumnSource?
  let time: ColumnSource?
  let headers: ColumnSource?
  let datacontenttype: ColumnSource?
  /// For a selection by it. Nil where the table has none.
  let aggregatetype: ColumnSource?
  /// The media type where no column says otherwise.
  let contentType: EventShape.Constant
  /// True where data of that media type is a JSON value.
  let isJSON: Bool
  let source: BoundTemplate
  /// Where it is the same for every row.
  let constantSource: EventShape.Constant?
  let topic: TopicRoute
  let key: BoundTemplate?
  /// The key is the aggregate id, because nobody has asked for another: an event without one has no order to keep.
  let isKeyOptional: Bool
  /// What the log was told of events that go without something.
  var toldOmissions: Set<Omission> = []
  let dataschema: BoundTemplate?
  let extensions: [Extension]
  /// True where the mapping has any of dataschema, partitionkey, extensions and a column of headers.
  let hasRareAttributes: Bool
  private let literals = Literals()

  /// - Parameter topic: of every row, in place of the mapping's.
  /// - Throws: `tableUnsuitable`, naming the column that is missing or has a type that does not serve;
  ///   `configurationInvalid`, naming what is the same for every row and not allowed.
  init(
    mapping: OutboxMapping, relation: Relation, database: String, topic: String? = nil
  ) throws(RelayError) {
    let binder = Binder(mapping: mapping, relation: relation, database: database, literals: literals)
    self.mapping = mapping
    self.relation = relation
    shape = EventShape(mapping.contentMode)
    id = try binder.required("id", mapping.columns.id).source
    type = try binder.required("type", mapping.columns.type).source
    let payload = try binder.required("payload", mapping.columns.payload)
    self.payload = payload.source
    subject = try binder.optional("subject", mapping.columns.subject)?.source
    time = try binder.time()?.source
    headers = try binder.headers()?.source
    aggregatetype = (try? binder.optional("aggregatetype", mapping.columns.aggregatetype))??.source
    datacontenttype = try binder.optional("datacontenttype", mapping.columns.datacontenttype)?.source
    let mediaType = try binder.contentType(payload)
    contentType = EventShape.Constant(.contentType, mediaType, literals)
    isJSON = CloudEventRules.isJSON(mediaType)
    source = try binder.source()
    constantSource = source.constant.map { [literals] in EventShape.Constant(.source, $0, literals) }
    self.topic = try TopicRoute(
      binder.bind(mapping.topic, part: "topic"), fixed: topic, mapping: mapping, literals)
    key = try binder.key()
    isKeyOptional = mapping.key == Template.defaultKey
    dataschema = try binder.dataschema()
    extensions = try binder.extensions(shape)
    hasRareAttributes =
      dataschema != nil || mapping.partitionkey || !extensions.isEmpty || headers != nil
  }
}
