// Owns: row to record: a CloudEvents 1.0.2 event in a Kafka message.
// Must not know: where rows come from and records go to, what stands where in a message.

/// Turns rows into records. All texts of a record are lent from the row, the plan, or the encoder's own
/// buffers, and stand until the following `encode` or `prepare`.
struct EventEncoder: ~Copyable {
  /// Plans that are kept beside those of the outboxes.
  private static let planLimit = 1_000

  private let mappings: [OutboxMapping]
  private let database: String
  let options: RelayOptions
  private let literals = Literals()
  private let replayMark: LentBytes?
  private(set) var plans: PlanCache
  private var plan: RowPlan?
  var arena = ByteArena()
  var message = EventMessage()
  var transaction = TransactionTexts()
  /// What events go without, since it was last taken.
  var omissions = Omissions()
  var columnHeaders = ColumnHeaders()

  init(mappings: [OutboxMapping], database: String, options: RelayOptions = RelayOptions()) {
    self.mappings = mappings
    self.database = database
    self.options = options
    replayMark = options.replayMark.map(literals.lend)
    plans = PlanCache(limit: mappings.count * 2 + Self.planLimit)
  }

  /// A table's shape has come. A shape that does not serve is reported when its first row comes.
  mutating func prepare(_ relation: Relation) {
    plan = nil
    plans.insert(compile(relation), for: relation.id)
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
      return .success(
        try RowPlan(mapping: mapping, relation: relation, database: database, topic: options.topic))
    } catch {
      return .failure(error)
    }
  }

  /// - Parameter commitLSN: of the row's transaction.
  /// - Returns: nil for an event that was not selected.
  /// - Throws: `tableUnsuitable`, `publicationUnsuitable`; `rowRejected` with the row's id and the reason;
  ///   `sourceUnavailable` where the table's shape is no longer kept.
  mutating func encode(
    _ row: RowView, commitLSN: LSN, commitTime: PostgresMicroseconds, index: RowIndex
  ) throws(RelayError) -> Record? {
    if plan?.relation.id != row.relationID { plan = try plans.plan(of: row.relationID) }
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
    do throws(RowFault) {
      if let selection = options.selection, try !isSelected(row, plan, selection) { return nil }
      return try record(row, plan, commitLSN: commitLSN, commitTime: commitTime, index: index)
    } catch {
      throw rejection(error, row, plan, commitLSN: commitLSN, index: index)
    }
  }

  @inline(__always)
  private mutating func record(
    _ row: RowView, _ plan: RowPlan, commitLSN: LSN, commitTime: PostgresMicroseconds, index: RowIndex
  ) throws(RowFault) -> Record {
    let topic = try plan.topic.topic(row, &arena)
    let key = try key(row, plan)
    let payload = row.values[plan.payload.index]
    let hasData = payload.format != .null
    var contentType: LentBytes?
    if let column = plan.datacontenttype { contentType = try self.contentType(row, plan, column) }
    plan.shape.begin(contentType ?? plan.contentType.value, hasData: hasData, &message)
    try putAttributes(row, plan, commitLSN: commitLSN, commitTime: commitTime, index: index)
    if hasData { plan.shape.putContentType(contentType, plan.contentType, &message) }
    if plan.hasRareAttributes { try putRareAttributes(row, plan, key: key) }
    let value = try plan.shape.end(
      hasData ? payloadBytes(payload, plan.payload) : nil, plan.payload.form,
      isJSON: contentType.map(CloudEventRules.isJSON) ?? plan.isJSON, &message)
    if let replayMark { message.add("outboxd-replay", replayMark) }
    return Record(topic: topic, key: key, value: value, headers: message.headers)
  }

  @inline(__always)
  private mutating func key(_ row: RowView, _ plan: RowPlan) throws(RowFault) -> LentBytes? {
    guard let template = plan.key else { return nil }
    let key = try template.text(row, "key", keepsBytes: true, &arena)
    if key == nil {
      guard plan.isKeyOptional else { throw keyless(plan) }
      omitted(.key, plan)
    }
    return key
  }

  // MARK: Omissions

  /// Counts what this event goes without. The log hears of each kind once for a table.
  mutating func omitted(_ omission: Omission, _ plan: RowPlan, _ detail: LentBytes? = nil) {
    omissions.count(omission)
    guard plan.toldOmissions.insert(omission).inserted else { return }
    var note = Omissions.Note(omission: omission, table: plan.mapping.qualifiedName)
    if let detail { note.detail = RowFault.quoted(detail) }
    omissions.notes.append(note)
  }

  // MARK: Rejection

  private func keyless(_ plan: RowPlan) -> RowFault {
    let text = plan.mapping.key?.description ?? ""
    return RowFault(
      "key", "a column of the template \(text) is NULL",
      remedy:
        "Set `key` of the outbox \(plan.mapping.qualifiedName) to columns that are never NULL, or to none for "
        + "records without a key, which have no order, and start again; the relay resumes at this row. To keep "
        + "others out, make the column NOT NULL.")
  }

  private mutating func rejection(
    _ fault: RowFault, _ row: RowView, _ plan: RowPlan, commitLSN: LSN, index: RowIndex
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
        + "again; the relay resumes at this row. A row that is in the WAL can no longer be changed.")
    error.commitLSN = commitLSN
    return error
  }
}
