// Owns: in what a run may differ from the live stream: which events, to which topic, with which mark.
// Must not know: the command line, where rows come from.

/// What a replay or a backfill changes. The defaults are the live stream's.
public struct RelayOptions: Equatable, Sendable {
  /// The value of the Kafka header `outboxd-replay`, which is no part of the event. Nil: no such header.
  public var replayMark: String?
  /// The topic of every record, in place of the mapping's: 1 to 249 of `[A-Za-z0-9._-]`. Nil: the mapping's.
  public var topic: String?
  /// Nil: every event.
  public var selection: EventSelection?
  /// False where rows come from a table, which knows no commit LSN: events then have no `sequence`.
  public var hasPositions = true

  public init(
    replayMark: String? = nil, topic: String? = nil, selection: EventSelection? = nil,
    hasPositions: Bool = true
  ) {
    self.replayMark = replayMark
    self.topic = topic
    self.selection = selection
    self.hasPositions = hasPositions
  }
}

/// Which events are wanted. An empty list admits all; an event must be admitted by every part.
public struct EventSelection: Equatable, Sendable {
  /// `schema.table`, as `OutboxMapping.qualifiedName` has it.
  public var outboxes: [String]
  public var aggregatetypes: [String]
  /// Aggregate ids.
  public var subjects: [String]
  public var types: [String]
  public var ids: [String]
  /// Commit times, both ends included. An event whose commit time is not known is admitted.
  public var from: PostgresMicroseconds?
  public var to: PostgresMicroseconds?

  public init(
    outboxes: [String] = [], aggregatetypes: [String] = [], subjects: [String] = [], types: [String] = [],
    ids: [String] = [], from: PostgresMicroseconds? = nil, to: PostgresMicroseconds? = nil
  ) {
    self.outboxes = outboxes
    self.aggregatetypes = aggregatetypes
    self.subjects = subjects
    self.types = types
    self.ids = ids
    self.from = from
    self.to = to
  }

  func admits(commitTime: PostgresMicroseconds) -> Bool {
    commitTime == .unknown || (commitTime >= from ?? .min && commitTime <= to ?? .max)
  }
}

extension EventEncoder {
  /// - Throws: `RowFault` where a wanted part of the row has no text, or the table has no such part.
  mutating func isSelected(
    _ row: RowView, _ plan: RowPlan, _ selection: EventSelection
  ) throws(RowFault) -> Bool {
    if !selection.outboxes.isEmpty, !selection.outboxes.contains(plan.mapping.qualifiedName) { return false }
    if !selection.ids.isEmpty, try !matches(row, plan.id, selection.ids, "id") { return false }
    if !selection.types.isEmpty, try !matches(row, plan.type, selection.types, "type") { return false }
    if !selection.subjects.isEmpty, try !matches(row, plan.subject, selection.subjects, "subject") {
      return false
    }
    if !selection.aggregatetypes.isEmpty,
      try !matches(row, plan.aggregatetype, selection.aggregatetypes, "aggregatetype")
    {
      return false
    }
    return true
  }

  private mutating func matches(
    _ row: RowView, _ column: RowPlan.Source?, _ wanted: [String], _ part: String
  ) throws(RowFault) -> Bool {
    guard let column else { return false }
    let value = row.values[column.index]
    if value.format == .null { return false }
    let text = try ValueText.text(of: value, column, part: part, arena: &arena)
    return wanted.contains { $0.utf8.elementsEqual(text) }
  }
}
