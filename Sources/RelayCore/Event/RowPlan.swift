// Owns: the binding of a mapping to one shape of a table: column indexes, literals, constants.
// Must not know: the values of a row, but for the one that its topic was made of last.

/// Compiled once for each Relation message, used for each row.
final class RowPlan {
  // What rows look at holds no reference: to copy it costs no retain.

  /// A value of the row.
  struct Source: BitwiseCopyable {
    var index: Int
    var form: ColumnType.Form
    /// The declared zone of a `timestamp`.
    var zone: LocalTime?
  }

  enum Segment: BitwiseCopyable {
    case literal(LentBytes)
    case column(Source)
  }

  /// A template with its placeholders bound.
  struct Text: BitwiseCopyable {
    var segments: UnsafeBufferPointer<Segment>
    /// The whole text where no column is in it.
    var constant: LentBytes?
    /// Room for one piece of each segment.
    var pieces: UnsafeMutablePointer<LentBytes>

    /// The one column that the text is made of, beside literals.
    var onlyColumn: Source? {
      var found: Source?
      for case .column(let column) in segments {
        if found != nil { return nil }
        found = column
      }
      return found
    }
  }

  /// An extension attribute from a column.
  struct Extension {
    var source: Source
    /// The column's name, for messages.
    var column: String
    var name: LentBytes
    var header: LentBytes
  }

  let mapping: OutboxMapping
  let relation: Relation
  let id: Source
  let type: Source
  let payload: Source
  let subject: Source?
  let time: Source?
  let headers: Source?
  let datacontenttype: Source?
  /// For a selection by it. Nil where the table has none.
  let aggregatetype: Source?
  /// The media type where no column says otherwise.
  let defaultContentType: LentBytes
  let source: Text
  let topic: Text
  /// Where the topic follows from the value of one column: that column.
  let topicColumn: Source?
  /// The topic that was made of it last.
  var lastTopic = TopicOfValue()
  let key: Text?
  /// The key is the aggregate id, because nobody has asked for another: an event without one has no order to keep.
  let isKeyOptional: Bool
  /// What the log was told of events that go without something.
  var toldOmissions: Set<Omission> = []
  let dataschema: Text?
  let extensions: [Extension]
  let isStructured: Bool
  /// True where data of the default media type is a JSON value.
  let isDefaultJSON: Bool
  /// True where the mapping has any of dataschema, partitionkey, extensions and a column of headers.
  let hasRareAttributes: Bool
  /// `,"source":"…"` of a structured event, where the source is the same for every row.
  let sourceMember: LentBytes?
  /// `,"datacontenttype":"…"` of a structured event with the default media type.
  let contentTypeMember: LentBytes
  private let literals = Literals()

  /// - Throws: `tableUnsuitable`, naming the column that is missing or has a type that does not serve.
  init(mapping: OutboxMapping, relation: Relation, database: String) throws(RelayError) {
    var zone: LocalTime?
    if let rules = mapping.columns.timeZone { zone = LocalTime(offsets: literals.lend(rules.offsets)) }
    let binder = Binder(
      mapping: mapping, relation: relation, database: database, literals: literals, zone: zone)
    self.mapping = mapping
    self.relation = relation
    id = try binder.required("id", mapping.columns.id).source
    type = try binder.required("type", mapping.columns.type).source
    let payload = try binder.required("payload", mapping.columns.payload)
    self.payload = payload.source
    subject = try binder.optional("subject", mapping.columns.subject)?.source
    time = try binder.time()?.source
    headers = try binder.headers()?.source
    aggregatetype = (try? binder.optional("aggregatetype", mapping.columns.aggregatetype))??.source
    datacontenttype = try binder.optional("datacontenttype", mapping.columns.datacontenttype)?.source
    defaultContentType = try binder.contentType(payload)
    source = try binder.bind(mapping.source, part: "source", isURI: true)
    topic = try binder.bind(mapping.topic, part: "topic")
    topicColumn = topic.onlyColumn
    if let template = mapping.key {
      key = try binder.bind(template, part: "key")
    } else {
      key = nil
    }
    isKeyOptional = mapping.key == Template.defaultKey
    if let template = mapping.dataschema {
      dataschema = try binder.bind(template, part: "dataschema", isURI: true)
    } else {
      dataschema = nil
    }
    var extensions: [Extension] = []
    for item in mapping.extensions {
      let column = try binder.text(binder.column(item.column, for: "extension \(item.name)"))
      extensions.append(
        Extension(
          source: column.source, column: column.name, name: literals.lend(item.name),
          header: literals.lend("ce_" + item.name)))
    }
    self.extensions = extensions
    isStructured = mapping.contentMode == .structured
    isDefaultJSON = CloudEventRules.isJSON(defaultContentType)
    hasRareAttributes =
      dataschema != nil || mapping.partitionkey || !extensions.isEmpty || headers != nil
    var writer = JSONWriter()
    if let constant = source.constant {
      writer.member(#","source":"#, constant)
      sourceMember = literals.lend(writer.bytes)
    } else {
      sourceMember = nil
    }
    writer.reset()
    writer.member(#","datacontenttype":"#, defaultContentType)
    contentTypeMember = literals.lend(writer.bytes)
    try binder.checkConstants(source: source, topic: topic, dataschema: dataschema)
  }
}
