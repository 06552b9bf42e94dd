// Owns: what the types of a table's columns make of its events, where nobody may have meant it so. Pure.
// Must not know: how the facts were read.
public import RelayCore

/// What the columns of a mapped table mean for its events: findings, and what a selection by time needs.
public struct ColumnAdvice {
  let mapping: OutboxMapping
  let relation: Relation
  /// The TimeZone of the role's sessions, where nothing else is set in them.
  let timeZone: String?

  public init(mapping: OutboxMapping, relation: Relation, timeZone: String? = nil) {
    self.mapping = mapping
    self.relation = relation
    self.timeZone = timeZone
  }

  public var findings: [Finding] {
    [zonelessTime, unusedTime, unusedHeaders].compactMap(\.self)
  }

  /// Why rows of the table cannot be selected by a moment; nil where they can.
  public var sinceFault: RelayError? {
    guard let column = zonelessColumn else { return nil }
    return RelayError(
      .configurationInvalid,
      "--since needs a time zone: the time column \"\(column)\" of \(mapping.qualifiedName) is a timestamp without "
        + "time zone, and columns.time_zone is not set",
      remedy: "\(declaration) Or leave --since out.")
  }

  private func column(_ mapped: String?, role: String) -> Relation.Column? {
    let usual = OutboxMapping.Columns.defaults.first { $0.role == role }?.names ?? []
    let names = mapped.map { [$0] } ?? usual
    return names.lazy.compactMap { name in relation.columns.first { $0.name == name } }.first
  }

  /// The time column, where it is a `timestamp` without a declared zone.
  private var zonelessColumn: String? {
    guard mapping.columns.timeZone == nil, let column = column(mapping.columns.time, role: "time"),
      column.type == .timestamp
    else { return nil }
    return column.name
  }

  private var declaration: String {
    "Set columns.time_zone of the outbox to the zone that the writers' sessions have, for example "
      + "\(timeZone.flatMap { $0.contains("/") ? $0 : nil } ?? "UTC"), or make the column a timestamptz."
  }

  private var zonelessTime: Finding? {
    guard let column = zonelessColumn else { return nil }
    let session = timeZone.map { "; a session of this role has TimeZone \($0) unless it sets another" } ?? ""
    return Finding(
      message:
        "the time column \"\(column)\" of \(mapping.qualifiedName) is a timestamp without time zone, and is read as "
        + "UTC\(session)", remedy: declaration)
  }

  private var unusedTime: Finding? {
    guard mapping.columns.time == nil, let column = column(nil, role: "time"),
      column.type != .timestamp, column.type != .timestamptz
    else { return nil }
    return Finding(
      message:
        "the column \"\(column.name)\" of \(mapping.qualifiedName) is neither timestamptz nor timestamp, and is "
        + "not used: the event's time is that of the commit",
      remedy: "Make it a timestamptz, name another column as columns.time of the outbox, or say so: "
        + "columns.time: none.")
  }

  private var unusedHeaders: Finding? {
    guard mapping.columns.headers == nil, let column = column(nil, role: "headers"),
      ![.json, .jsonb, .text, .bpchar].contains(column.type)
    else { return nil }
    return Finding(
      message:
        "the column \"\(column.name)\" of \(mapping.qualifiedName) is not json, jsonb or text, and is not used",
      remedy: "Make it a jsonb, name another column as columns.headers of the outbox, or say so: "
        + "columns.headers: none.")
  }
}

extension ServerFacts {
  /// Of all outboxes whose tables there are.
  func columnAdvice(_ mappings: [OutboxMapping]) -> [ColumnAdvice] {
    mappings.compactMap { mapping in
      table(mapping.schema, mapping.table).map {
        ColumnAdvice(mapping: mapping, relation: $0.relation, timeZone: timeZone)
      }
    }
  }
}

extension Recovery {
  /// Whether rows can be selected by a moment, before anything is done about them.
  /// - Throws: `configurationInvalid` where a time column has no zone.
  public func checkSince(_ mappings: [OutboxMapping]) throws(RelayError) {
    if let fault = facts.columnAdvice(mappings).lazy.compactMap(\.sinceFault).first { throw fault }
  }
}

extension SlotInspector {
  /// The TimeZone that a session of the role has by itself, whatever this one has set.
  func timeZone() throws(RelayError) -> String? {
    try connection.query("SELECT reset_val AS zone FROM pg_settings WHERE name = 'TimeZone'")[0, "zone"]
  }
}
