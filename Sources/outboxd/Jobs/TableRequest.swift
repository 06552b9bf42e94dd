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
  var selection = EventSelection()
  /// In place of the mappings' topics.
  var topic: String?
  /// An absolute path. Nil: Kafka.
  var file: String?
  /// Events a second.
  var rate: Int?

  /// The options that a resumed backfill brings with it.
  static let fixed = [
    "outbox", "aggregate-type", "aggregate-id", "type", "id", "topic", "to-file", "dry-run",
    "accept-duplicates",
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
    try ReplayOptions.check(topic: topic, invocation)
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
    file = name.hasPrefix("/") ? name : Self.folder + "/" + name
  }

  private static var folder: String {
    guard let path = getcwd(nil, 0) else { return "." }
    // SAFETY: getcwd allocates a NUL-terminated text, which is freed once.
    defer { free(path) }
    return String(cString: path)
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
    selection = EventSelection(
      outboxes: texts("outboxes"), aggregatetypes: texts("aggregatetypes"), subjects: texts("subjects"),
      types: texts("types"), ids: texts("ids"))
    topic = json["topic"]?.string
    file = json["file"]?.string
    if case .integer(let number) = json["rate"] { rate = Int(number) }
  }
}
