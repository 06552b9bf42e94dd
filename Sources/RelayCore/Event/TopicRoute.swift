// Owns: the way from a row to its topic, and which topics no event may go to.
// Must not know: what Kafka knows of a topic.

/// The compiled `topic` of a mapping: one topic for every row, one that follows from the value of one column, or a
/// template's text.
struct TopicRoute: ~Copyable {
  /// The topic of every row; nil where it depends on the row.
  let constant: LentBytes?
  private let template: BoundTemplate
  /// Where the topic follows from the value of one column: that column.
  private let column: ColumnSource?
  private let lastTopic = TopicMemory()
  private let mapping: OutboxMapping

  /// - Parameters:
  ///   - template: the mapping's `topic`.
  ///   - fixed: the topic of every row, in place of the mapping's.
  /// - Throws: `configurationInvalid` where no event may go to the one topic of every row.
  init(
    _ template: BoundTemplate, fixed: String?, mapping: OutboxMapping, _ literals: Literals
  ) throws(RelayError) {
    self.template = template
    self.mapping = mapping
    constant = fixed.map(literals.lend) ?? template.constant
    let columns = template.columns
    column = columns.count == 1 ? columns.first : nil
    guard let constant, let fault = mapping.allowedTopics.fault(constant) else { return }
    throw Self.refused(String(decoding: constant, as: UTF8.self), fault, isOfJob: fixed != nil, mapping)
  }

  private static func refused(
    _ topic: String, _ fault: TopicFault, isOfJob: Bool, _ mapping: OutboxMapping
  ) -> RelayError {
    isOfJob
      ? RelayError(
        .configurationInvalid, "the topic \(PrintableText.quoted(topic)) of the job \(fault.reason)",
        remedy: "Start the job again with another --topic, or add the topic to kafka.allowed_topics.")
      : RelayError(
        .configurationInvalid,
        "the topic \"\(topic)\" of the outbox \(mapping.qualifiedName) \(fault.reason)",
        remedy: "Correct `topic` of that outbox in the configuration.")
  }

  /// The columns that a row's topic depends on.
  var columns: [ColumnSource] { constant == nil ? template.columns : [] }

  /// The topic of a row: of 1 to 249 bytes, and one that events may go to. Lent until the next row, or for as long as
  /// the plan.
  /// - Throws: where there is none.
  @inline(__always)
  func topic(_ row: RowView, _ arena: inout ByteArena) throws(RowFault) -> LentBytes {
    if let constant { return constant }
    guard let column, row.values[column.index].format == .binary else { return try allowed(row, &arena) }
    let value = row.values[column.index].bytes
    if let topic = lastTopic.topic(of: value) { return topic }
    let topic = try allowed(row, &arena)
    lastTopic.remember(topic, of: value)
    return topic
  }

  /// What the row's columns make, be it the name of a topic or not. Nil where one of them is NULL.
  func text(_ row: RowView, _ arena: inout ByteArena) throws(RowFault) -> LentBytes? {
    if let constant { return constant }
    return try template.text(row, "topic", &arena)
  }

  private func allowed(_ row: RowView, _ arena: inout ByteArena) throws(RowFault) -> LentBytes {
    guard let topic = try text(row, &arena) else { throw RowFault("topic", "a column in it is NULL") }
    guard let fault = mapping.allowedTopics.fault(topic) else { return topic }
    throw RowFault(
      "topic", "\(RowFault.quoted(topic)) \(fault.reason)",
      remedy: fault == .notAllowed
        ? "Add the topic to kafka.allowed_topics, or correct `topic` of the outbox \(mapping.qualifiedName), and "
          + "start again; the relay resumes at this row." : nil)
  }
}
