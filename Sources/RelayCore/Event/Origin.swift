// Owns: the identity of a mapping: what its events come from.
// Must not know: how events are made of it.

/// What the events of a mapping come from. No two mappings of a configuration have the same.
public enum Origin: Hashable, Sendable {
  case table(schema: String, name: String)
}

extension OutboxMapping {
  public var origin: Origin { .table(schema: schema, name: table) }
}

extension Relation {
  /// By the name that the table had when its shape was sent.
  public var origin: Origin { .table(schema: schema, name: table) }
}

extension Sequence<OutboxMapping> {
  /// The mapping of an origin; nil where no outbox names it.
  public func mapping(of origin: Origin) -> OutboxMapping? { first { $0.origin == origin } }
}
