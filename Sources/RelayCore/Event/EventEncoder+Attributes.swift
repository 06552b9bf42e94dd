// Owns: the attributes and the data of an event: where each comes from, and how it is put down in the binary and in
// the structured mode. Each stands here once for both, so that an event is the same in both.
// Must not know: the topic of a record.

extension EventEncoder {
  /// The media type that the row names; nil for the plan's.
  mutating func contentType(
    _ row: RowView, _ plan: RowPlan, _ column: RowPlan.Source
  ) throws(RowFault) -> LentBytes? {
    guard let text = try attribute(row, column, "datacontenttype")?.bytes, !text.isEmpty else { return nil }
    guard CloudEventRules.isMediaType(text) else {
      throw RowFault("datacontenttype", "\(quoted(text)) is not a media type")
    }
    return text
  }

  /// What comes before all attributes: of a binary event the media type of its data, of a structured one its own.
  @inline(__always)
  mutating func begin(_ plan: RowPlan, contentType: LentBytes?, hasData: Bool) {
    if plan.isStructured {
      add("content-type", ValueText.staticText("application/cloudevents+json; charset=UTF-8"))
      writer.reset()
      writer.raw(#"{"specversion":"1.0""#)
    } else {
      if hasData { add("content-type", contentType ?? plan.defaultContentType) }
      add("ce_specversion", ValueText.staticText("1.0"))
    }
  }

  /// - Parameters:
  ///   - commitLSN: of the row's transaction.
  ///   - index: of the row among its transaction's inserted rows, from 0.
  @inline(__always)
  mutating func putAttributes(
    _ row: RowView, _ plan: RowPlan, commitLSN: LSN, commitTime: PostgresMicroseconds, index: UInt32
  ) throws(RowFault) {
    guard let id = try attribute(row, plan.id, "id"), !id.bytes.isEmpty else {
      throw RowFault("id", "it is NULL or empty")
    }
    put("ce_id", #","id":"#, id.bytes, plan, isPlain: id.isPlain)
    if let constant = plan.source.constant {
      if let member = plan.sourceMember, plan.isStructured {
        writer.raw(member)
      } else {
        add("ce_source", constant)
      }
    } else {
      try putSource(row, plan)
    }
    guard let type = try attribute(row, plan.type, "type"), !type.bytes.isEmpty else {
      throw RowFault("type", "it is NULL or empty")
    }
    put("ce_type", #","type":"#, type.bytes, plan, isPlain: type.isPlain)
    if let column = plan.subject, let subject = try attribute(row, column, "subject"), !subject.bytes.isEmpty
    {
      put("ce_subject", #","subject":"#, subject.bytes, plan, isPlain: subject.isPlain)
    }
    if let time = try time(row, plan, commitTime) { put("ce_time", #","time":"#, time, plan, isPlain: true) }
    if options.hasPositions {
      put("ce_sequence", #","sequence":"#, transaction.sequence(commitLSN, index), plan, isPlain: true)
    }
  }

  private mutating func putSource(_ row: RowView, _ plan: RowPlan) throws(RowFault) {
    guard let text = try render(plan.source, row, "source") else {
      throw RowFault("source", "a column in it is NULL")
    }
    let source = PercentEncoding.reference(text, into: &arena)
    guard CloudEventRules.isURIReference(source) else {
      throw RowFault("source", "\(quoted(source)) is not a URI reference (RFC 3986)")
    }
    put("ce_source", #","source":"#, source, plan)
  }

  /// The media type of a structured event's data.
  @inline(__always)
  mutating func putContentType(_ contentType: LentBytes?, _ plan: RowPlan) {
    if let contentType {
      writer.member(#","datacontenttype":"#, contentType)
    } else {
      writer.raw(plan.contentTypeMember)
    }
  }

  /// What few events have: dataschema, partitionkey, the extensions of the mapping and those of the headers column.
  mutating func putRareAttributes(_ row: RowView, _ plan: RowPlan, key: LentBytes?) throws(RowFault) {
    if let template = plan.dataschema, let text = try render(template, row, "dataschema"), !text.isEmpty {
      let text = template.constant == nil ? PercentEncoding.reference(text, into: &arena) : text
      if template.constant == nil, !CloudEventRules.isURI(text) {
        throw RowFault("dataschema", "\(quoted(text)) is not an absolute URI (RFC 3986)")
      }
      put("ce_dataschema", #","dataschema":"#, text, plan)
    }
    if plan.mapping.partitionkey, let key, !key.isEmpty {
      guard CloudEventRules.isString(key) else { throw RowFault("partitionkey", notAString) }
      put("ce_partitionkey", #","partitionkey":"#, key, plan)
    }
    for item in plan.extensions {
      if let text = try attribute(row, item.source, item.column)?.bytes, !text.isEmpty {
        try put(item, text, plan)
      }
    }
    try addHeaders(row, plan)
  }

  /// An attribute: the name of its header, the name of its member as it stands in JSON, comma and colon included.
  /// - Parameter isPlain: the value cannot hold a byte that needs an escape.
  @inline(__always)
  private mutating func put(
    _ header: StaticString, _ member: StaticString, _ value: LentBytes, _ plan: RowPlan, isPlain: Bool = false
  ) {
    guard plan.isStructured else { return add(header, value) }
    writer.raw(member)
    if isPlain { writer.plainString(value) } else { writer.string(value) }
  }

  private mutating func put(
    _ item: RowPlan.Extension, _ text: LentBytes, _ plan: RowPlan
  ) throws(RowFault) {
    guard plan.isStructured else { return try add(name: item.header, value: text) }
    writer.raw(",")
    writer.string(item.name)
    writer.raw(":")
    switch item.source.form {
    case .bool, .int2, .int4: writer.raw(text)
    default: writer.string(text)
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
    _ row: RowView, _ column: RowPlan.Source, _ part: String
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
      "\(quoted(text)) has no form in RFC 3339, which CloudEvents wants: it is infinite, or of a year "
        + "outside 1 to 9999",
      remedy:
        "Set columns.time of the outbox \(plan.mapping.qualifiedName) to none, for the time of the commit, or "
        + "to another column, and start again; the relay goes on at this row.")
  }

  var notAString: String {
    "it holds a control character, a noncharacter, or bytes that are not UTF-8, which CloudEvents forbids"
  }

  // MARK: Data

  /// The payload as the consumer gets it.
  @inline(__always)
  func payloadBytes(
    _ value: ColumnValue, _ column: RowPlan.Source
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

  /// The data of a structured event. CloudEvents JSON format 1.0.2, section 3.1.1: bytes as base64, JSON as itself,
  /// other text as a string.
  mutating func putData(
    _ bytes: LentBytes, _ plan: RowPlan, contentType: LentBytes?
  ) throws(RowFault) {
    if plan.payload.form == .bytea {
      writer.raw(#","data_base64":"#)
      writer.base64(bytes)
      return
    }
    writer.raw(#","data":"#)
    if contentType.map(CloudEventRules.isJSON) ?? plan.isDefaultJSON {
      let isKnownValid = plan.payload.form == .json || plan.payload.form == .jsonb
      if !isKnownValid {
        var scanner = JSONScanner(bytes)
        guard scanner.skipDocument() else {
          throw RowFault(
            "payload",
            scanner.isTooDeep
              ? "it is declared to be JSON and is nested deeper than \(JSONScanner.maximumDepth) levels, which is the "
                + "limit for a payload that is not of type json or jsonb"
              : "it is declared to be JSON and is not valid JSON")
        }
      }
      writer.raw(bytes)
    } else {
      guard UTF8Rules.isValid(bytes) else { throw RowFault("payload", "the text is not valid UTF-8") }
      writer.string(bytes)
    }
  }
}
