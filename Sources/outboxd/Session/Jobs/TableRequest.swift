// Owns: what a backfill was asked for, as values and as the JSON that outboxd.job keeps.
// Must not know: how it is carried out.
import Glibc
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
  var selection = EventSelection()
  /// In place of the mappings' topics. What a row says is compared with the command line: see `JobResumption.place`.
  var topic: String?
  /// An absolute path. Nil: Kafka. What a row says is shown, and never opened: see `JobResumption.place`.
  var file: String?
  /// Events a second.
  var rate: Int?

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
  static let fixed = [
    "outbox", "aggregate-type", "aggregate-id", "type", "id", "dry-run", "accept-duplicates",
  ]

  /// - Throws: `usage`, on one line.
  init(_ invocation: Invocation, mappings: [OutboxMapping]) throws(RelayError) {
    var outboxes: [String] = []
    for name in invocation.values("outbox") {
      outboxes.append(try ReplayOptions.outbox(name, mappings, invocation))
    }
    selection = EventSelection(
      outboxes: outboxes, aggregatetypes: invocation.values("aggregate-type"),
      subjects: invocation.values("aggregate-id"), types: invocation.values("type"),
      ids: invocation.values("id"))
    topic = invocation.value("topic")
    rate = try ReplayOptions.rate(invocation)
    try ReplayOptions.check(topic: topic, mappings, invocation)
    try takeFile(invocation)
  }

  private mutating func takeFile(_ invocation: Invocation) throws(RelayError) {
    guard let name = invocation.value("to-file") else { return }
    if name == "" { throw invocation.usage("--to-file needs the name of a file, or - for standard output") }
    if invocation.isSet("dry-run") {
      throw invocation.usage("--dry-run writes nothing: it takes no --to-file")
    }
    if name == "-" {
      if invocation.isSet("json") {
        throw invocation.usage("--json and --to-file - would both write to standard output: name a file")
      }
      file = name
      return
    }
    if access(name, F_OK) == 0 {
      throw RelayError(
        .usage, "the file \(name) exists", remedy: "Name another file, or remove it: nothing is overwritten.")
    }
    file = JobResumption.absolute(name)
  }

  var target: JobTarget { file == "-" ? .standardOutput : file.map { .file($0) } ?? .kafka }

  var options: RelayOptions {
    RelayOptions(
      topic: topic, selection: selection == EventSelection() ? nil : selection, hasPositions: false)
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
          .usage, "the backfill reads \(table.outbox), which no outbox of the configuration names any more",
          remedy: "Name it under outboxes again, or begin another backfill, without --resume.")
      }
      var read = TableRead(mapping)
      (read.oid, read.others, read.starts) = (table.oid, table.others, table.starts)
      reads.append(read)
    }
    return reads
  }

  /// The tables that are to be read.
  func mappings(_ all: [OutboxMapping]) -> [OutboxMapping] {
    selection.outboxes.isEmpty ? all : all.filter { selection.outboxes.contains($0.qualifiedName) }
  }

  var json: JSONValue {
    func array(_ texts: [String]) -> JSONValue { .array(texts.map { .text($0) }) }
    return .object([
      .init("start_lsn", .optional(start?.lsn.description)),
      .init("start_snapshot", .optional(start?.snapshot)),
      .init("covers_snapshot", .optional(covers)),
      .init("tables", .array(tables.map(\.json))),
      .init("outboxes", array(selection.outboxes)),
      .init("aggregatetypes", array(selection.aggregatetypes)),
      .init("subjects", array(selection.subjects)),
      .init("types", array(selection.types)),
      .init("ids", array(selection.ids)),
      .init("topic", .optional(topic)),
      .init("file", .optional(file)),
      .init("rate", rate.map { .integer(Int64($0)) } ?? .null),
    ])
  }

  /// Nil where the text is not a request of this version of outboxd.
  init?(json text: String) {
    guard let json = JSONReader.value(of: text), let lsn = json["start_lsn"]?.string.flatMap({ LSN($0) })
    else { return nil }
    func texts(_ name: String) -> [String] {
      guard case .array(let items) = json[name] else { return [] }
      return items.compactMap(\.string)
    }
    start = SlotStart(lsn: lsn, snapshot: json["start_snapshot"]?.string)
    covers = json["covers_snapshot"]?.string
    guard case .array(let items) = json["tables"] else { return nil }
    tables = items.compactMap(Table.init)
    selection = EventSelection(
      outboxes: texts("outboxes"), aggregatetypes: texts("aggregatetypes"), subjects: texts("subjects"),
      types: texts("types"), ids: texts("ids"))
    topic = json["topic"]?.string
    file = json["file"]?.string
    if case .integer(let number) = json["rate"] { rate = Int(exactly: number) }
    guard ReplayOptions.isSendable(topic: topic, rate: rate) else { return nil }
  }

  /// Where a resumed job goes on, for the log: its row was not written by this process.
  var place: [Log.Field] { ReplayOptions.place(topic: topic, file: file) }
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
    func number(_ json: JSONValue) -> UInt32? {
      guard case .integer(let number) = json["oid"] else { return nil }
      return UInt32(exactly: number)
    }
    func items(_ name: String) -> [JSONValue] {
      guard case .array(let items) = json[name] else { return [] }
      return items
    }
    guard let outbox = json["outbox"]?.string, let oid = number(json) else { return nil }
    (self.outbox, self.oid) = (outbox, oid)
    for item in items("others") {
      guard let oid = number(item), let schema = item["schema"]?.string, let name = item["table"]?.string
      else { return nil }
      others[oid] = TableName(schema, name)
    }
    for item in items("starts") {
      guard let oid = number(item), let lsn = item["lsn"]?.string.flatMap({ LSN($0) }) else { return nil }
      starts[oid] = SlotStart(lsn: lsn, snapshot: item["snapshot"]?.string)
    }
  }
}
