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

/// Finds columns by name and turns templates into segments.
private struct Binder {
  struct Column {
    var index: Int
    var type: ColumnType
    var name: String
    var zone: LocalTime?

    var source: RowPlan.Source {
      RowPlan.Source(index: index, form: type.form, zone: type == .timestamp ? zone : nil)
    }
  }

  let mapping: OutboxMapping
  let relation: Relation
  let database: String
  let literals: Literals
  let zone: LocalTime?

  func unsuitable(_ reason: String, remedy: String? = nil) -> RelayError {
    RelayError(
      .tableUnsuitable, "table \(QualifiedName.text(relation.schema, relation.table)) \(reason)",
      remedy: remedy
        ?? "Correct `columns` of the outbox \(mapping.qualifiedName) in the configuration, or the table.")
  }

  func find(_ name: String) -> Column? {
    relation.columns.firstIndex { $0.name == name }.map {
      Column(index: $0, type: relation.columns[$0].type, name: name, zone: zone)
    }
  }

  func column(_ name: String, for part: String) throws(RelayError) -> Column {
    if let source = find(name) { return source }
    let names = relation.columns.map(\.name).joined(separator: ", ")
    throw unsuitable("has no column \"\(name)\", which \(part) is mapped to (it has: \(names))")
  }

  /// The column of a role: the mapped one, which must exist, or the first of the usual names.
  func optional(_ role: String, _ mapped: String?) throws(RelayError) -> Column? {
    if let mapped {
      if mapped == "none", find(mapped) == nil { return nil }
      return try text(column(mapped, for: role))
    }
    let usual = OutboxMapping.Columns.defaults.first { $0.role == role }?.names ?? []
    for name in usual {
      if let source = find(name) { return try text(source) }
    }
    return nil
  }

  func required(_ role: String, _ mapped: String?) throws(RelayError) -> Column {
    if let source = try optional(role, mapped) { return source }
    let usual = OutboxMapping.Columns.defaults.first { $0.role == role }?.names ?? []
    throw unsuitable(
      "has no column for the event's \(role) (looked for: \(usual.joined(separator: ", ")))",
      remedy: "Name it as columns.\(role) of the outbox \(mapping.qualifiedName) in the configuration.")
  }

  /// Refuses types whose bytes are no text. A type of the user's own may be an enum, whose bytes are.
  func text(_ source: Column) throws(RelayError) -> Column {
    if case .other(let oid, let name) = source.type, oid < Self.firstUserOID {
      throw unsuitable("has a column \"\(source.name)\" of type \(name), which nothing can be made of")
    }
    return source
  }

  /// The first oid that the system does not use for itself (FirstNormalObjectId, transam.h).
  private static let firstUserOID: UInt32 = 16_384

  func time() throws(RelayError) -> Column? {
    guard let source = try optional("time", mapping.columns.time) else { return nil }
    if source.type == .timestamptz || source.type == .timestamp { return source }
    if mapping.columns.time == nil { return nil }
    throw unsuitable(
      "has a column \"\(source.name)\" for time that is neither timestamptz nor timestamp",
      remedy:
        "Name another column as columns.time of the outbox \(mapping.qualifiedName), or none for the time of "
        + "the commit.")
  }

  func headers() throws(RelayError) -> Column? {
    guard let source = try optional("headers", mapping.columns.headers) else { return nil }
    switch source.type {
    case .json, .jsonb, .text, .bpchar: return source
    default:
      if mapping.columns.headers == nil { return nil }
      throw unsuitable(
        "has a column \"\(source.name)\" for headers that is not json, jsonb or text",
        remedy: "Name another column as columns.headers of the outbox \(mapping.qualifiedName), or none.")
    }
  }

  func contentType(_ payload: Column) throws(RelayError) -> LentBytes {
    let byType: String
    switch payload.type {
    case .json, .jsonb: byType = "application/json"
    case .text, .bpchar: byType = "text/plain; charset=utf-8"
    case .xml: byType = "application/xml"
    case .bytea: byType = "application/octet-stream"
    default:
      throw unsuitable(
        "has a payload column \"\(payload.name)\" of a type that is not jsonb, json, text, bytea or xml")
    }
    let mediaType = mapping.datacontenttype ?? byType
    guard CloudEventRules.isMediaType(mediaType) else {
      throw RelayError(
        .configurationInvalid,
        "the datacontenttype \"\(mediaType)\" of the outbox \(mapping.qualifiedName) is not a media type",
        remedy: "Write it as type/subtype, for example application/json.")
    }
    return literals.lend(mediaType)
  }

  /// A placeholder is, in this order: database, schema or table; a column; a role or attribute; an
  /// extension's name.
  /// - Parameter isURI: constants become segments of a path.
  func bind(_ template: Template, part: String, isURI: Bool = false) throws(RelayError) -> RowPlan.Text {
    var segments: [RowPlan.Segment] = []
    var constant = ""
    for item in template.parts {
      switch item {
      case .literal(let text):
        constant += text
        segments.append(.literal(literals.lend(text)))
      case .placeholder(let name):
        if let name = constantPlaceholder(name) {
          let text = isURI ? PercentEncoding.segment(name) : name
          constant += text
          segments.append(.literal(literals.lend(text)))
        } else {
          segments.append(.column(try placeholder(name, part: part).source))
        }
      }
    }
    let isConstant = segments.allSatisfy { if case .literal = $0 { true } else { false } }
    return RowPlan.Text(
      segments: literals.lend(segments), constant: isConstant ? literals.lend(constant) : nil,
      pieces: literals.lendPieces(segments.count))
  }

  private func constantPlaceholder(_ name: String) -> String? {
    if find(name) != nil { return nil }
    switch name {
    case "database": return database
    case "schema": return relation.schema
    case "table": return relation.table
    default: return nil
    }
  }

  private func placeholder(_ name: String, part: String) throws(RelayError) -> Column {
    if let source = find(name) { return try text(source) }
    let columns = mapping.columns
    let role: Column? =
      switch name {
      case "aggregateid", "subject": try optional("subject", columns.subject)
      case "aggregatetype": try optional("aggregatetype", columns.aggregatetype)
      case "id": try optional("id", columns.id)
      case "type": try optional("type", columns.type)
      default: nil
      }
    if let role { return role }
    if let item = mapping.extensions.first(where: { $0.name == name }) {
      return try text(column(item.column, for: "extension \(name)"))
    }
    let names = relation.columns.map(\.name).joined(separator: ", ")
    throw unsuitable(
      "has no column for {\(name)} in \(part) (it has: \(names))",
      remedy: "Correct `\(part)` of the outbox \(mapping.qualifiedName) in the configuration, or name the "
        + "column under `columns`.")
  }

  func checkConstants(
    source: RowPlan.Text, topic: RowPlan.Text, dataschema: RowPlan.Text?
  ) throws(RelayError) {
    if let text = source.constant, !CloudEventRules.isURIReference(text) {
      throw invalid("source", text, "is not a URI reference (RFC 3986)")
    }
    if let text = topic.constant, let fault = mapping.allowedTopics.fault(text) {
      throw invalid("topic", text, fault.reason)
    }
    if let text = dataschema?.constant, !CloudEventRules.isURI(text) {
      throw invalid("dataschema", text, "is not an absolute URI (RFC 3986)")
    }
  }

  private func invalid(_ part: String, _ text: LentBytes, _ reason: String) -> RelayError {
    RelayError(
      .configurationInvalid,
      "the \(part) \"\(String(decoding: text, as: UTF8.self))\" of the outbox \(mapping.qualifiedName) "
        + reason,
      remedy: "Correct `\(part)` of that outbox in the configuration.")
  }
}
