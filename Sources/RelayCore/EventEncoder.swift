// Owns: row to record: CloudEvents 1.0.2 in the binary and structured modes of its Kafka binding.
// Must not know: where rows come from and records go to.
import Glibc

/// Turns rows into records. All texts of a record are lent from the row, the plan, or the encoder's own
/// buffers, and stand until the following `encode`.
struct EventEncoder: ~Copyable {
  /// The most headers a record may have, the mark of a replay not counted.
  static let maximumHeaders = 64

  private let mappings: [OutboxMapping]
  private let database: String
  private let options: RelayOptions
  private let literals = Literals()
  private let replayMark: LentBytes?
  private let fixedTopic: LentBytes?
  private var plans: [UInt32: Result<RowPlan, RelayError>] = [:]
  private var plan: RowPlan?
  var arena = ByteArena()
  var writer = JSONWriter()
  private var transaction = TransactionTexts()
  private var validTopic = TopicMemory()
  let headers: UnsafeMutablePointer<RecordHeader>
  var headerCount = 0

  init(mappings: [OutboxMapping], database: String, options: RelayOptions = RelayOptions()) {
    self.mappings = mappings
    self.database = database
    self.options = options
    replayMark = options.replayMark.map(literals.lend)
    fixedTopic = options.topic.map(literals.lend)
    headers = .allocate(capacity: Self.maximumHeaders + 1)
  }

  deinit { headers.deallocate() }

  /// A table's shape has come. A shape that does not serve is reported when its first row comes.
  mutating func prepare(_ relation: Relation) {
    plan = nil
    plans[relation.id] = compile(relation)
  }

  private func compile(_ relation: Relation) -> Result<RowPlan, RelayError> {
    guard
      let mapping = mappings.first(where: { $0.schema == relation.schema && $0.table == relation.table })
    else {
      return .failure(
        RelayError(
          .publicationUnsuitable,
          "the publication sends rows of \(relation.schema).\(relation.table), which no outbox names",
          remedy: "Add the table under `outboxes`, or take it out of the publication."))
    }
    do throws(RelayError) {
      return .success(try RowPlan(mapping: mapping, relation: relation, database: database))
    } catch {
      return .failure(error)
    }
  }

  /// - Parameters:
  ///   - commitLSN: of the row's transaction.
  ///   - index: of the row among its transaction's inserted rows, from 0.
  /// - Returns: nil for an event that was not selected.
  /// - Throws: `tableUnsuitable`, `publicationUnsuitable`; `rowRejected` with the row's id and the reason.
  mutating func encode(
    _ row: RowView, commitLSN: LSN, commitTime: PostgresMicroseconds, index: UInt32
  ) throws(RelayError) -> Record? {
    if plan?.relation.id != row.relationID {
      switch plans[row.relationID] {
      case .success(let found): plan = found
      case .failure(let error): throw error
      case nil:
        throw RelayError(
          .streamMalformed, "a row came for relation \(row.relationID), whose shape has not come")
      }
    }
    guard let plan else { throw RelayError(.failed, "no plan") }
    guard row.values.count == plan.relation.columns.count else {
      throw RelayError(
        .streamMalformed,
        "a row of \(plan.relation.schema).\(plan.relation.table) has \(row.values.count) values, "
          + "its relation has \(plan.relation.columns.count) columns")
    }
    arena.reset()
    headerCount = 0
    do throws(RowFault) {
      if let selection = options.selection, try !isSelected(row, plan, selection) { return nil }
      return try encode(row, plan, commitLSN: commitLSN, commitTime: commitTime, index: index)
    } catch {
      throw rejection(error, row, plan, commitLSN: commitLSN, index: index)
    }
  }

  private mutating func encode(
    _ row: RowView, _ plan: RowPlan, commitLSN: LSN, commitTime: PostgresMicroseconds, index: UInt32
  ) throws(RowFault) -> Record {
    let topic = try topic(row, plan)
    var key: LentBytes?
    if let text = plan.key {
      key = try render(text, row, "key", keepsBytes: true)
      if key == nil {
        throw RowFault("key", "a column in it is NULL (fill it, or set `key: none` for records without key)")
      }
    }
    let attributes = try attributes(
      row, plan, key: key, commitLSN: commitLSN, commitTime: commitTime, index: index)
    let value = row.values[plan.payload.index]
    if plan.isStructured {
      try structured(row, plan, attributes, payload: value)
      addReplayMark()
      return Record(
        topic: topic, key: key, value: writer.bytes,
        headers: UnsafeBufferPointer(start: headers, count: headerCount))
    }
    try binary(row, plan, attributes, hasData: value.format != .null)
    addReplayMark()
    var data: LentBytes?
    if value.format != .null { data = try payloadBytes(value, plan.payload) }
    return Record(
      topic: topic, key: key, value: data,
      headers: UnsafeBufferPointer(start: headers, count: headerCount))
  }

  private mutating func topic(_ row: RowView, _ plan: RowPlan) throws(RowFault) -> LentBytes {
    if let fixedTopic { return fixedTopic }
    guard let topic = try render(plan.topic, row, "topic") else {
      throw RowFault("topic", "a column in it is NULL")
    }
    if plan.topic.constant == nil, !validTopic.holds(topic) {
      guard CloudEventRules.isTopic(topic) else {
        throw RowFault("topic", "\(quoted(topic)) is not a topic name: 1 to 249 of A-Z a-z 0-9 . _ -")
      }
      validTopic.remember(topic)
    }
    return topic
  }

  private mutating func addReplayMark() {
    if let replayMark { add("outboxd-replay", replayMark) }
  }

  // MARK: Attributes

  private struct Attributes {
    var id: LentBytes
    var source: LentBytes
    var type: LentBytes
    var subject: LentBytes?
    var time: LentBytes?
    var sequence: LentBytes?
    /// Nil: the plan's default.
    var contentType: LentBytes?
    var dataschema: LentBytes?
    var partitionkey: LentBytes?
  }

  private mutating func attributes(
    _ row: RowView, _ plan: RowPlan, key: LentBytes?, commitLSN: LSN, commitTime: PostgresMicroseconds,
    index: UInt32
  ) throws(RowFault) -> Attributes {
    guard let id = try attribute(row, plan.id, "id"), !id.isEmpty else {
      throw RowFault("id", "it is NULL or empty")
    }
    guard let type = try attribute(row, plan.type, "type"), !type.isEmpty else {
      throw RowFault("type", "it is NULL or empty")
    }
    guard let source = try render(plan.source, row, "source") else {
      throw RowFault("source", "a column in it is NULL")
    }
    if plan.source.constant == nil, !CloudEventRules.isURIReference(source) {
      throw RowFault("source", "\(quoted(source)) is not a URI reference (RFC 3986)")
    }
    var subject: LentBytes?
    if let column = plan.subject, let text = try attribute(row, column, "subject"), !text.isEmpty {
      subject = text
    }
    var contentType: LentBytes?
    if let column = plan.datacontenttype,
      let text = try attribute(row, column, "datacontenttype"), !text.isEmpty
    {
      guard CloudEventRules.isMediaType(text) else {
        throw RowFault("datacontenttype", "\(quoted(text)) is not a media type")
      }
      contentType = text
    }
    var dataschema: LentBytes?
    if let template = plan.dataschema, let text = try render(template, row, "dataschema"), !text.isEmpty {
      if template.constant == nil, !CloudEventRules.isURI(text) {
        throw RowFault("dataschema", "\(quoted(text)) is not an absolute URI (RFC 3986)")
      }
      dataschema = text
    }
    var partitionkey: LentBytes?
    if plan.mapping.partitionkey, let key, !key.isEmpty {
      guard CloudEventRules.isString(key) else { throw RowFault("partitionkey", notAString) }
      partitionkey = key
    }
    return Attributes(
      id: id, source: source, type: type, subject: subject,
      time: try time(row, plan, commitTime),
      sequence: options.hasPositions ? transaction.sequence(commitLSN, index) : nil,
      contentType: contentType, dataschema: dataschema, partitionkey: partitionkey)
  }

  private mutating func time(
    _ row: RowView, _ plan: RowPlan, _ commitTime: PostgresMicroseconds
  ) throws(RowFault) -> LentBytes? {
    if let column = plan.time, row.values[column.index].format != .null {
      return try ValueText.text(
        of: row.values[column.index], form: column.form, part: "time", arena: &arena)
    }
    if commitTime == .unknown { return nil }
    guard let text = transaction.time(commitTime) else { throw ValueText.timeless("time") }
    return text
  }

  /// An attribute's text, checked; nil for NULL.
  @inline(__always)
  private mutating func attribute(
    _ row: RowView, _ column: RowPlan.Source, _ part: String
  ) throws(RowFault) -> LentBytes? {
    let value = row.values[column.index]
    if value.format == .null { return nil }
    let text = try ValueText.text(of: value, form: column.form, part: part, arena: &arena)
    if ValueText.isFree(column.form), !CloudEventRules.isString(text) { throw RowFault(part, notAString) }
    return text
  }

  var notAString: String {
    "it holds a control character, a noncharacter, or bytes that are not UTF-8, which CloudEvents forbids"
  }

  /// A template's text; nil if a column in it is NULL.
  /// - Parameter keepsBytes: a template that is nothing but a bytea stays as it is, and is no base64.
  @inline(__always)
  private mutating func render(
    _ text: RowPlan.Text, _ row: RowView, _ part: String, keepsBytes: Bool = false
  ) throws(RowFault) -> LentBytes? {
    if let constant = text.constant { return constant }
    if text.segments.count == 1, case .column(let column) = text.segments[0] {
      let value = row.values[column.index]
      if value.format == .null { return nil }
      if keepsBytes, column.form == .bytea { return value.bytes }
      return try ValueText.text(of: value, form: column.form, part: part, arena: &arena)
    }
    return try joined(text, row, part)
  }

  private mutating func joined(
    _ text: RowPlan.Text, _ row: RowView, _ part: String
  ) throws(RowFault) -> LentBytes? {
    var total = 0
    for index in 0..<text.segments.count {
      let piece: LentBytes
      switch text.segments[index] {
      case .literal(let bytes): piece = bytes
      case .column(let column):
        let value = row.values[column.index]
        if value.format == .null { return nil }
        piece = try ValueText.text(of: value, form: column.form, part: part, arena: &arena)
      }
      // SAFETY: there is room for as many pieces as segments.
      text.pieces[index] = piece
      total += piece.count
    }
    let target = arena.reserve(total)
    var position = 0
    for index in 0..<text.segments.count {
      let piece = text.pieces[index]
      // SAFETY: the pieces have the lengths that were summed up above, so all of them fit into `total`.
      if let start = piece.baseAddress { memcpy(target + position, start, piece.count) }
      position += piece.count
    }
    return LentBytes(start: target, count: total)
  }

  // MARK: Binary mode

  private mutating func binary(
    _ row: RowView, _ plan: RowPlan, _ attributes: Attributes, hasData: Bool
  ) throws(RowFault) {
    if hasData { add("content-type", attributes.contentType ?? plan.defaultContentType) }
    add("ce_specversion", ValueText.staticText("1.0"))
    add("ce_id", attributes.id)
    add("ce_source", attributes.source)
    add("ce_type", attributes.type)
    if let subject = attributes.subject { add("ce_subject", subject) }
    if let time = attributes.time { add("ce_time", time) }
    if let sequence = attributes.sequence { add("ce_sequence", sequence) }
    if let dataschema = attributes.dataschema { add("ce_dataschema", dataschema) }
    if let partitionkey = attributes.partitionkey { add("ce_partitionkey", partitionkey) }
    for item in plan.extensions {
      if let text = try attribute(row, item.source, item.column), !text.isEmpty {
        try add(name: item.header, value: text)
      }
    }
    try addHeaders(row, plan, structured: false)
  }

  @inline(__always)
  private mutating func add(_ name: StaticString, _ value: LentBytes) {
    // SAFETY: at most ten fixed headers come before any other, the replay's mark comes last, and there is room for
    // one more than `maximumHeaders`.
    (headers + headerCount).initialize(to: RecordHeader(name: ValueText.staticText(name), value: value))
    headerCount += 1
  }

  mutating func add(name: LentBytes, value: LentBytes) throws(RowFault) {
    guard headerCount < Self.maximumHeaders else {
      throw RowFault("headers", "there are more than \(Self.maximumHeaders) headers")
    }
    // SAFETY: the count is below the capacity.
    (headers + headerCount).initialize(to: RecordHeader(name: name, value: value))
    headerCount += 1
  }

  /// The payload as the consumer gets it.
  private func payloadBytes(
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

  // MARK: Structured mode

  private mutating func structured(
    _ row: RowView, _ plan: RowPlan, _ attributes: Attributes, payload: ColumnValue
  ) throws(RowFault) {
    add("content-type", ValueText.staticText("application/cloudevents+json; charset=UTF-8"))
    writer.reset()
    writer.raw(#"{"specversion":"1.0","id":"#)
    if ValueText.isFree(plan.id.form) {
      writer.string(attributes.id)
    } else {
      writer.plainString(attributes.id)
    }
    if let member = plan.sourceMember {
      writer.raw(member)
    } else {
      writer.member(#","source":"#, attributes.source)
      writer.raw(#","type":"#)
    }
    writer.string(attributes.type)
    if let subject = attributes.subject { writer.member(#","subject":"#, subject) }
    // What is made of digits needs no escape.
    if let time = attributes.time {
      writer.raw(#","time":"#)
      writer.plainString(time)
    }
    if let sequence = attributes.sequence {
      writer.raw(#","sequence":"#)
      writer.plainString(sequence)
    }
    if payload.format != .null {
      if let contentType = attributes.contentType {
        writer.member(#","datacontenttype":"#, contentType)
      } else {
        writer.raw(plan.contentTypeMember)
      }
    }
    if let dataschema = attributes.dataschema { writer.member(#","dataschema":"#, dataschema) }
    if let partitionkey = attributes.partitionkey { writer.member(#","partitionkey":"#, partitionkey) }
    for item in plan.extensions {
      if let text = try attribute(row, item.source, item.column), !text.isEmpty {
        writer.raw(",")
        writer.string(item.name)
        writer.raw(":")
        switch item.source.form {
        case .bool, .int2, .int4: writer.raw(text)
        default: writer.string(text)
        }
      }
    }
    try addHeaders(row, plan, structured: true)
    if payload.format != .null {
      let isJSON = attributes.contentType.map(CloudEventRules.isJSON) ?? plan.isDefaultJSON
      try data(payload, plan.payload, isJSON: isJSON)
    }
    writer.raw("}")
  }

  /// CloudEvents JSON format 1.0.2, section 3.1.1: bytes as base64, JSON as itself, other text as a string.
  private mutating func data(
    _ value: ColumnValue, _ column: RowPlan.Source, isJSON: Bool
  ) throws(RowFault) {
    let bytes = try payloadBytes(value, column)
    if column.form == .bytea {
      writer.raw(#","data_base64":"#)
      writer.base64(bytes)
      return
    }
    writer.raw(#","data":"#)
    if isJSON {
      let isKnownValid = column.form == .json || column.form == .jsonb
      guard isKnownValid || JSONScanner.isValid(bytes) else {
        throw RowFault("payload", "it is declared to be JSON and is not valid JSON")
      }
      writer.raw(bytes)
    } else {
      guard UTF8Rules.isValid(bytes) else { throw RowFault("payload", "the text is not valid UTF-8") }
      writer.string(bytes)
    }
  }

  // MARK: Rejection

  func quoted(_ bytes: LentBytes) -> String {
    PrintableText.quoted(String(decoding: bytes.prefix(80), as: UTF8.self))
  }

  private mutating func rejection(
    _ fault: RowFault, _ row: RowView, _ plan: RowPlan, commitLSN: LSN, index: UInt32
  ) -> RelayError {
    var id = "NULL"
    let value = row.values[plan.id.index]
    if value.format != .null,
      let text = try? ValueText.text(of: value, form: plan.id.form, part: "id", arena: &arena)
    {
      id = PrintableText.quoted(String(decoding: text.prefix(200), as: UTF8.self))
    }
    let table = "\(plan.relation.schema).\(plan.relation.table)"
    var error = RelayError(
      .rowRejected,
      "row \(id) of \(table), row \(index) of the transaction that committed at \(commitLSN), cannot become an "
        + "event: \(fault.part): \(fault.reason)",
      remedy:
        "Correct the mapping of the outbox \(plan.mapping.qualifiedName) so that the row fits, and start "
        + "again; the relay goes on at this row. A row of the WAL cannot be changed any more.")
    error.commitLSN = commitLSN
    return error
  }
}

/// The id of an event that is already a record, for a message about it.
enum RecordIdentity {
  /// The value of `ce_id`, or the `id` of a structured event as this module writes it.
  static func id(of record: Record) -> String {
    for header in record.headers where header.name.elementsEqual(ValueText.staticText("ce_id")) {
      return String(decoding: header.value, as: UTF8.self)
    }
    guard let value = record.value else { return "unknown" }
    let prefix = ValueText.staticText(#"{"specversion":"1.0","id":"#)
    guard value.count > prefix.count, value.prefix(prefix.count).elementsEqual(prefix) else {
      return "unknown"
    }
    var scanner = JSONScanner(LentBytes(rebasing: value[prefix.count...]))
    guard scanner.skipString() else { return "unknown" }
    let quoted = scanner.slice(from: 0)
    return String(decoding: quoted.dropFirst().dropLast(), as: UTF8.self)
  }
}
