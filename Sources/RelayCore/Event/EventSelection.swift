// Owns: which events are wanted, by outbox, attributes and commit time.
// Must not know: the command line, rows.

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
