// Owns: what a backfill was asked for, as values and as the JSON that outboxd.job keeps.
// Must not know: how it is carried out.
import PostgresSource
import RelayCore

/// Which events of the tables, and where they go.
struct TableRequest: Equatable, Sendable {
  /// The slot's start: what had been committed before. Nil in a dry run that makes none.
  var start: SlotStart?
  /// A snapshot of which every row must be seen, where the start has none.
  var covers: String?
  /// The tables, by OID: a name may stand for another one when an interrupted backfill goes on.
  var tables: [Table] = []
  var events: EventRequest

  struct Table: Equatable, Sendable {
    var outbox: String
    var oid: UInt32
    /// Partitions and former tables.
    var others: [UInt32: TableName] = [:]
    var starts: [UInt32: SlotStart] = [:]

    init(_ read: TableRead) {
      outbox = read.mapping.qualifiedName
      oid = read.oid ?? 0
      others = read.others
      starts = read.starts
    }
  }

  /// The options that a resumed backfill brings with it.
  static let fixed = EventRequest.fixed + ["accept-duplicates"]

  init(_ events: EventRequest) { self.events = events }

  var options: RelayOptions {
    RelayOptions(
      topic: events.topic, selection: events.selection == EventSelection() ? nil : events.selection,
      hasPositions: false)
  }

  /// Which rows.
  var range: TableRange {
    var range = TableRange()
    range.visibleIn = start?.snapshot
    range.streamStart = start?.lsn
    range.covers = covers
    return range
  }

  /// What is read.
  /// - Throws: `usage` where an outbox is configured no more.
  func reads(_ all: [OutboxMapping]) throws(RelayError) -> [TableRead] {
    var reads: [TableRead] = []
    for table in tables {
      guard let mapping = all.first(where: { $0.qualifiedName == table.outbox }) else {
        throw RelayError(
          .usage, "the backfill reads \(table.outbox), which is no longer among the configured outboxes",
          remedy: "Add it to outboxes again, or start another backfill, without --resume.")
      }
      var read = TableRead(mapping)
      (read.oid, read.others, read.starts) = (table.oid, table.others, table.starts)
      reads.append(read)
    }
    return reads
  }

  var json: JSONValue {
    .object(
      [
        .init("start_lsn", .optional(start?.lsn.description)),
        .init("start_snapshot", .optional(start?.snapshot)),
        .init("covers_snapshot", .optional(covers)),
        .init("tables", .array(tables.map(\.json))),
      ] + events.members)
  }

  /// Nil where the text is not a request of this version of outboxd.
  init?(json text: String) {
    guard let json = JSONReader.value(of: text), let events = EventRequest(json),
      let lsn = json["start_lsn"]?.string.flatMap({ LSN($0) }), case .array(let items) = json["tables"]
    else { return nil }
    self.events = events
    start = SlotStart(lsn: lsn, snapshot: json["start_snapshot"]?.string)
    covers = json["covers_snapshot"]?.string
    tables = items.compactMap(Table.init)
  }
}

extension TableRequest.Table {
  fileprivate var json: JSONValue {
    .object([
      .init("outbox", .text(outbox)), .init("oid", .integer(Int64(oid))),
      .init(
        "others",
        .array(
          others.sorted { $0.key < $1.key }.map { oid, name in
            .object([
              .init("oid", .integer(Int64(oid))), .init("schema", .text(name.schema)),
              .init("table", .text(name.name)),
            ])
          })),
      .init(
        "starts",
        .array(
          starts.sorted { $0.key < $1.key }.map { oid, start in
            .object([
              .init("oid", .integer(Int64(oid))), .init("lsn", .text(start.lsn.description)),
              .init("snapshot", .optional(start.snapshot)),
            ])
          })),
    ])
  }

  fileprivate init?(_ json: JSONValue) {
    func number(_ json: JSONValue) -> UInt32? { json["oid"]?.integer.flatMap { UInt32(exactly: $0) } }
    guard let outbox = json["outbox"]?.string, let oid = number(json) else { return nil }
    (self.outbox, self.oid) = (outbox, oid)
    for item in json["others"]?.items ?? [] {
      guard let oid = number(item), let schema = item["schema"]?.string, let name = item["table"]?.string
      else { return nil }
      others[oid] = TableName(schema, name)
    }
    for item in json["starts"]?.items ?? [] {
      guard let oid = number(item), let lsn = item["lsn"]?.string.flatMap({ LSN($0) }) else { return nil }
      starts[oid] = SlotStart(lsn: lsn, snapshot: item["snapshot"]?.string)
    }
  }
}
