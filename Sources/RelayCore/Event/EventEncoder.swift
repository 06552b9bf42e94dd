// Owns: row to record: CloudEvents 1.0.2 in the binary and structured modes of its Kafka binding.
// Must not know: where rows come from and records go to.
import Glibc

/// Turns rows into records. All texts of a record are lent from the row, the plan, or the encoder's own
/// buffers, and stand until the following `encode` or `prepare`.
struct EventEncoder: ~Copyable {
  /// The most headers a record may have, the mark of a replay not counted: ten of attributes, those of the headers
  /// column, and the mapping's extensions.
  static let maximumHeaders = 128

  private let mappings: [OutboxMapping]
  private let database: String
  let options: RelayOptions
  private let literals = Literals()
  private let replayMark: LentBytes?
  private let fixedTopic: LentBytes?
  private var plans: [UInt32: Result<RowPlan, RelayError>] = [:]
  private var plan: RowPlan?
  var arena = ByteArena()
  var writer = JSONWriter()
  var transaction = TransactionTexts()
  let headers: UnsafeMutablePointer<RecordHeader>
  var headerCount = 0
  /// What events go without, since it was last taken.
  var omissions = Omissions()
  var columnHeaders = ColumnHeaders()

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
    // By the name of that time, which redelivery finds again; a table that was renamed since has none of the names.
    guard let mapping = mappings.mapping(of: relation.origin) ?? relation.outbox else {
      return .failure(
        RelayError(
          .publicationUnsuitable,
          "the publication sends rows of \(QualifiedName.text(relation.schema, relation.table)), which no outbox names",
          remedy: "Add the table under `outboxes`, or take it out of the publication."))
    }
    do throws(RelayError) {
      if let topic = options.topic, let fault = mapping.allowedTopics.fault(topic) {
        throw RelayError(
          .configurationInvalid, "the topic \(PrintableText.quoted(topic)) of the job \(fault.reason)",
          remedy: "Begin the job again with another --topic, or add the topic to kafka.allowed_topics.")
      }
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
    // Taken out and put back: two counts of references for each row less.
    guard let plan = self.plan.take() else { throw RelayError(.failed, "no plan") }
    defer { self.plan = plan }
    guard row.values.count == plan.relation.columns.count else {
      throw RelayError(
        .streamMalformed,
        "a row of \(QualifiedName.text(plan.relation.schema, plan.relation.table)) has \(row.values.count) values, "
          + "its relation has \(plan.relation.columns.count) columns")
    }
    arena.reset()
    headerCount = 0
    do throws(RowFault) {
      if let selection = options.selection, try !isSelected(row, plan, selection) { return nil }
      return try record(row, plan, commitLSN: commitLSN, commitTime: commitTime, index: index)
    } catch {
      throw rejection(error, row, plan, commitLSN: commitLSN, index: index)
    }
  }

  @inline(__always)
  private mutating func record(
    _ row: RowView, _ plan: RowPlan, commitLSN: LSN, commitTime: PostgresMicroseconds, index: UInt32
  ) throws(RowFault) -> Record {
    let topic = try topic(row, plan)
    var key: LentBytes?
    if let text = plan.key {
      key = try render(text, row, "key", keepsBytes: true)
      if key == nil {
        guard plan.isKeyOptional else { throw keyless(plan) }
        omitted(.key, plan)
      }
    }
    let payload = row.values[plan.payload.index]
    var contentType: LentBytes?
    if let column = plan.datacontenttype { contentType = try self.contentType(row, plan, column) }
    begin(plan, contentType: contentType, hasData: payload.format != .null)
    try putAttributes(row, plan, commitLSN: commitLSN, commitTime: commitTime, index: index)
    if plan.isStructured, payload.format != .null { putContentType(contentType, plan) }
    if plan.hasRareAttributes { try putRareAttributes(row, plan, key: key) }
    var value: LentBytes?
    if payload.format != .null {
      let data = try payloadBytes(payload, plan.payload)
      if plan.isStructured { try putData(data, plan, contentType: contentType) } else { value = data }
    }
    if plan.isStructured {
      writer.raw("}")
      value = writer.bytes
    }
    if let replayMark { add("outboxd-replay", replayMark) }
    return Record(
      topic: topic, key: key, value: value, headers: UnsafeBufferPointer(start: headers, count: headerCount))
  }

  private mutating func topic(_ row: RowView, _ plan: RowPlan) throws(RowFault) -> LentBytes {
    if let fixedTopic { return fixedTopic }
    if let constant = plan.topic.constant { return constant }
    let value = plan.topicColumn.map { row.values[$0.index] }
    if let value, value.format == .binary, let topic = plan.lastTopic.topic(of: value.bytes) { return topic }
    guard let topic = try render(plan.topic, row, "topic") else {
      throw RowFault("topic", "a column in it is NULL")
    }
    if let fault = plan.mapping.allowedTopics.fault(topic) { throw rejection(of: topic, fault, plan) }
    if let value, value.format == .binary { plan.lastTopic.remember(topic, of: value.bytes) }
    return topic
  }

  // MARK: Texts

  /// A template's text; nil if a column in it is NULL.
  /// - Parameter keepsBytes: a template that is nothing but a bytea stays as it is, and is no base64.
  @inline(__always)
  mutating func render(
    _ text: RowPlan.Text, _ row: RowView, _ part: String, keepsBytes: Bool = false
  ) throws(RowFault) -> LentBytes? {
    if let constant = text.constant { return constant }
    if text.segments.count == 1, case .column(let column) = text.segments[0] {
      let value = row.values[column.index]
      if value.format == .null { return nil }
      if keepsBytes, column.form == .bytea { return value.bytes }
      return try ValueText.text(of: value, column, part: part, arena: &arena)
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
        piece = try ValueText.text(of: value, column, part: part, arena: &arena)
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

  // MARK: Headers

  @inline(__always)
  mutating func add(_ name: StaticString, _ value: LentBytes) {
    // SAFETY: at most ten fixed headers come before any other, the replay's mark comes last, and there is room for
    // one more than `maximumHeaders`.
    (headers + headerCount).initialize(to: RecordHeader(name: ValueText.staticText(name), value: value))
    headerCount += 1
  }

  mutating func add(name: LentBytes, value: LentBytes) throws(RowFault) {
    guard headerCount < Self.maximumHeaders else {
      throw RowFault("extensions", "there are more than \(Self.maximumHeaders) headers")
    }
    // SAFETY: the count is below the capacity.
    (headers + headerCount).initialize(to: RecordHeader(name: name, value: value))
    headerCount += 1
  }

  // MARK: Omissions

  /// Counts what this event goes without. The log hears of each kind once for a table.
  mutating func omitted(_ omission: Omission, _ plan: RowPlan, _ detail: LentBytes? = nil) {
    omissions.count(omission)
    guard plan.toldOmissions.insert(omission).inserted else { return }
    var note = Omissions.Note(omission: omission, table: plan.mapping.qualifiedName)
    if let detail { note.detail = quoted(detail) }
    omissions.notes.append(note)
  }

  // MARK: Rejection

  private func rejection(of topic: LentBytes, _ fault: TopicFault, _ plan: RowPlan) -> RowFault {
    RowFault(
      "topic", "\(quoted(topic)) \(fault.reason)",
      remedy: fault == .notAllowed
        ? "Add the topic to kafka.allowed_topics, or correct `topic` of the outbox \(plan.mapping.qualifiedName), and "
          + "start again; the relay goes on at this row." : nil)
  }

  private func keyless(_ plan: RowPlan) -> RowFault {
    let text = plan.mapping.key?.description ?? ""
    return RowFault(
      "key", "a column of the template \(text) is NULL",
      remedy:
        "Set `key` of the outbox \(plan.mapping.qualifiedName) to columns that are never NULL, or to none for "
        + "records without a key, which have no order, and start again; the relay goes on at this row. To keep "
        + "others out, make the column NOT NULL.")
  }

  func quoted(_ bytes: LentBytes) -> String {
    PrintableText.quoted(String(decoding: bytes.prefix(80), as: UTF8.self))
  }

  private mutating func rejection(
    _ fault: RowFault, _ row: RowView, _ plan: RowPlan, commitLSN: LSN, index: UInt32
  ) -> RelayError {
    var id = "NULL"
    let value = row.values[plan.id.index]
    if value.format != .null,
      let text = try? ValueText.text(of: value, plan.id, part: "id", arena: &arena)
    {
      id = PrintableText.quoted(String(decoding: text.prefix(200), as: UTF8.self))
    }
    let table = QualifiedName.text(plan.relation.schema, plan.relation.table)
    var error = RelayError(
      .rowRejected,
      "row \(id) of \(table), row \(index) of the transaction that committed at \(commitLSN), cannot become an "
        + "event: \(fault.part): \(fault.reason)",
      remedy: fault.remedy
        ?? "Correct the mapping of the outbox \(plan.mapping.qualifiedName) so that the row fits, and start "
        + "again; the relay goes on at this row. A row of the WAL cannot be changed any more.")
    error.commitLSN = commitLSN
    return error
  }
}
