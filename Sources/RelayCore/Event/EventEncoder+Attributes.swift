// Owns: the attributes and the data of an event: where each comes from, and what it must be.
// Must not know: where they stand in a message, the topic.

extension EventEncoder {
  /// The media type that the row names; nil for the plan's.
  mutating func contentType(
    _ row: RowView, _ plan: RowPlan, _ column: ColumnSource
  ) throws(RowFault) -> LentBytes? {
    guard let text = try attribute(row, column, "datacontenttype")?.bytes, !text.isEmpty else { return nil }
    guard CloudEventRules.isMediaType(text) else {
      throw RowFault("datacontenttype", "\(RowFault.quoted(text)) is not a media type")
    }
    return text
  }

  @inline(__always)
  mutating func putAttributes(
    _ row: RowView, _ plan: RowPlan, commitLSN: LSN, commitTime: PostgresMicroseconds, index: RowIndex
  ) throws(RowFault) {
    guard let id = try attribute(row, plan.id, "id"), !id.bytes.isEmpty else {
      throw RowFault("id", "it is NULL or empty")
    }
    plan.shape.put(.id, id.bytes, isPlain: id.isPlain, &message)
    if let source = plan.constantSource {
      plan.shape.put(.source, source, &message)
    } else {
      try putSource(row, plan)
    }
    guard let type = try attribute(row, plan.type, "type"), !type.bytes.isEmpty else {
      throw RowFault("type", "it is NULL or empty")
    }
    plan.shape.put(.type, type.bytes, isPlain: type.isPlain, &message)
    if let column = plan.subject, let subject = try attribute(row, column, "subject"), !subject.bytes.isEmpty
    {
      plan.shape.put(.subject, subject.bytes, isPlain: subject.isPlain, &message)
    }
    if let time = try time(row, plan, commitTime) { plan.shape.put(.time, time, isPlain: true, &message) }
    if options.hasPositions {
      plan.shape.put(.sequence, transaction.sequence(commitLSN, index), isPlain: true, &message)
    }
  }

  private mutating func putSource(_ row: RowView, _ plan: RowPlan) throws(RowFault) {
    guard let text = try plan.source.text(row, "source", &arena) else {
      throw RowFault("source", "a column in it is NULL")
    }
    let source = PercentEncoding.reference(text, into: &arena)
    guard CloudEventRules.isURIReference(source) else {
      throw RowFault("source", "\(RowFault.quoted(source)) is not a URI reference (RFC 3986)")
    }
    plan.shape.put(.source, source, &message)
  }

  /// What few events have: dataschema, partitionkey, the extensions of the mapping and those of the headers column.
  mutating func putRareAttributes(_ row: RowView, _ plan: RowPlan, key: LentBytes?) throws(RowFault) {
    if let template = plan.dataschema, let text = try template.text(row, "dataschema", &arena), !text.isEmpty
    {
      let text = template.constant == nil ? PercentEncoding.reference(text, into: &arena) : text
      if template.constant == nil, !CloudEventRules.isURI(text) {
        throw RowFault("dataschema", "\(RowFault.quoted(text)) is not an absolute URI (RFC 3986)")
      }
      plan.shape.put(.dataschema, text, &message)
    }
    if plan.mapping.partitionkey, let key, !key.isEmpty {
      guard CloudEventRules.isString(key) else { throw RowFault("partitionkey", notAString) }
      plan.shape.put(.partitionkey, key, &message)
    }
    for item in plan.extensions {
      if let text = try attribute(row, item.source, item.column)?.bytes, !text.isEmpty {
        try plan.shape.put(
          extension: item.nameInMessage, text, isLiteral: Self.isLiteral(item.source.form), &message)
      }
    }
    try addHeaders(row, plan)
  }

  /// True where the text of a value is a JSON number or truth value that CloudEvents knows.
  private static func isLiteral(_ form: ColumnType.Form) -> Bool {
    switch form {
    case .bool, .int2, .int4: true
    default: false
    }
  }

  // MARK: Values

  @inline(__always)
  private mutating func time(
    _ row: RowView, _ plan: RowPlan, _ commitTime: PostgresMicroseconds
  ) throws(RowFault) -> LentBytes? {
    if let column = plan.time, row.values[column.index].format != .null {
      let text = try ValueText.text(of: row.values[column.index], column, part: "time", arena: &arena)
      guard RFC3339.isTime(text) else { throw timeless(text, plan) }
      return text
    }
    // A table's row may not tell it; and a server's clock may stand where RFC 3339 has no year.
    return commitTime == .unknown ? nil : transaction.time(commitTime)
  }

  /// An attribute's text, checked; nil for NULL. `isPlain`: no byte of it needs an escape in JSON.
  @inline(__always)
  private mutating func attribute(
    _ row: RowView, _ column: ColumnSource, _ part: String
  ) throws(RowFault) -> (bytes: LentBytes, isPlain: Bool)? {
    let value = row.values[column.index]
    if value.format == .null { return nil }
    let text = try ValueText.text(of: value, column, part: part, arena: &arena)
    // One look at the bytes serves both questions for nearly all texts.
    let isPlain = !ValueText.isFree(column.form) || JSONWriter.isPlainASCII(text)
    guard isPlain || CloudEventRules.isString(text) else { throw RowFault(part, notAString) }
    return (text, isPlain)
  }

  private func timeless(_ text: LentBytes, _ plan: RowPlan) -> RowFault {
    RowFault(
      "time",
      "\(RowFault.quoted(text)) cannot be written in RFC 3339, as CloudEvents requires: it is infinite, or of a year "
        + "outside 1 to 9999",
      remedy:
        "Set columns.time of the outbox \(plan.mapping.qualifiedName) to none, for the time of the commit, or "
        + "to another column, and start again; the relay resumes at this row.")
  }

  var notAString: String {
    "it holds a control character, a noncharacter, or bytes that are not UTF-8, which CloudEvents forbids"
  }

  // MARK: Data

  /// The payload as the consumer gets it.
  @inline(__always)
  func payloadBytes(
    _ value: ColumnValue, _ column: ColumnSource
  ) throws(RowFault) -> LentBytes {
    guard column.form == .jsonb, value.format == .binary else {
      if column.form == .bytea, value.format != .binary {
        throw RowFault("payload", "the server sent a bytea in text format")
      }
      return value.bytes
    }
    guard let text = ValueText.jsonb(value.bytes) else {
      throw RowFault("payload", "the jsonb has an unknown version")
    }
    return text
  }
}
