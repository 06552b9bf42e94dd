// Owns: which column or constant each part of a mapping stands for in one shape of a table.
// Must not know: the values of rows.

/// Finds columns by name and turns templates into segments.
struct Binder {
  struct Column {
    var index: Int
    var type: ColumnType
    var name: String
    var zone: LocalTime?

    var source: ColumnSource {
      ColumnSource(index: index, form: type.form, zone: type == .timestamp ? zone : nil)
    }
  }

  let mapping: OutboxMapping
  let relation: Relation
  let database: String
  let literals: Literals
  private let zone: LocalTime?

  init(mapping: OutboxMapping, relation: Relation, database: String, literals: Literals) {
    self.mapping = mapping
    self.relation = relation
    self.database = database
    self.literals = literals
    zone = mapping.columns.timeZone.map { LocalTime(offsets: literals.lend($0.offsets)) }
  }

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
      "has no column for the event's \(role) (expected: \(usual.joined(separator: ", ")))",
      remedy: "Name it as columns.\(role) of the outbox \(mapping.qualifiedName) in the configuration.")
  }

  /// Refuses types whose bytes are no text. A type of the user's own may be an enum, whose bytes are.
  func text(_ source: Column) throws(RelayError) -> Column {
    if case .other(let oid, let name) = source.type, oid < Self.firstUserOID {
      throw unsuitable("has a column \"\(source.name)\" of type \(name), which outboxd cannot convert")
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

  /// - Throws: where the source is the same for every row, and none.
  func source() throws(RelayError) -> BoundTemplate {
    let source = try bind(mapping.source, part: "source", isURI: true)
    if let text = source.constant, !CloudEventRules.isURIReference(text) {
      throw invalid("source", text, "is not a URI reference (RFC 3986)")
    }
    return source
  }

  /// - Throws: where the dataschema is the same for every row, and none.
  func dataschema() throws(RelayError) -> BoundTemplate? {
    guard let template = mapping.dataschema else { return nil }
    let dataschema = try bind(template, part: "dataschema", isURI: true)
    if let text = dataschema.constant, !CloudEventRules.isURI(text) {
      throw invalid("dataschema", text, "is not an absolute URI (RFC 3986)")
    }
    return dataschema
  }

  func key() throws(RelayError) -> BoundTemplate? {
    guard let template = mapping.key else { return nil }
    return try bind(template, part: "key")
  }

  func extensions(_ shape: EventShape) throws(RelayError) -> [RowPlan.Extension] {
    var extensions: [RowPlan.Extension] = []
    var arena = ByteArena()
    for item in mapping.extensions {
      let column = try text(column(item.column, for: "extension \(item.name)"))
      let name = literals.lend(item.name)
      extensions.append(
        RowPlan.Extension(
          source: column.source, column: column.name, name: name,
          nameInMessage: literals.lend(shape.name(ofExtension: name, &arena))))
    }
    return extensions
  }

  /// A placeholder is, in this order: database, schema or table; a column; a role or attribute; an
  /// extension's name.
  /// - Parameter isURI: constants become segments of a path.
  func bind(_ template: Template, part: String, isURI: Bool = false) throws(RelayError) -> BoundTemplate {
    var segments: [BoundTemplate.Segment] = []
    var constant: String? = ""
    func add(_ literal: String) {
      constant?.append(literal)
      segments.append(.literal(literals.lend(literal)))
    }
    for item in template.parts {
      switch item {
      case .literal(let text): add(text)
      case .placeholder(let name):
        if let text = constantPlaceholder(name) {
          add(isURI ? PercentEncoding.segment(text) : text)
        } else {
          constant = nil
          segments.append(.column(try placeholder(name, part: part).source))
        }
      }
    }
    return BoundTemplate(segments, constant: constant, literals)
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

  private func invalid(_ part: String, _ text: LentBytes, _ reason: String) -> RelayError {
    RelayError(
      .configurationInvalid,
      "the \(part) \"\(String(decoding: text, as: UTF8.self))\" of the outbox \(mapping.qualifiedName) "
        + reason,
      remedy: "Correct `\(part)` of that outbox in the configuration.")
  }
}
