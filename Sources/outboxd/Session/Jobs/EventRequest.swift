// Owns: what a replay and a backfill are both asked for: which events, where they go, how fast; as values and as the JSON
// that outboxd.job keeps.
// Must not know: which rows are read, how it is carried out.
import Glibc
import RelayCore

struct EventRequest: Equatable, Sendable {
  /// Without times.
  var selection = EventSelection()
  /// In place of the mappings' topics. What a row says is compared with the command line: see `JobResumption.place`.
  var topic: String?
  /// A path from the root, or `-` for standard output. Nil: Kafka. What a row says is shown, and never opened: see
  /// `JobResumption.place`.
  var file: String?
  /// Events a second, from 1 to 10,000,000. Nil: as fast as it goes.
  var rate: Int?

  /// The options that a resumed job brings with it.
  static let fixed = ["outbox", "aggregate-type", "aggregate-id", "type", "id", "dry-run"]
  private static let rates = 1...10_000_000

  init() {}

  var target: JobTarget { file == "-" ? .standardOutput : file.map { .file($0) } ?? .kafka }

  /// For the log.
  var place: [Log.Field] { [("to", file ?? "Kafka"), ("topic", topic ?? "of each outbox")] }

  /// Those that are asked for.
  func mappings(_ all: [OutboxMapping]) -> [OutboxMapping] {
    selection.outboxes.isEmpty ? all : all.filter { selection.outboxes.contains($0.qualifiedName) }
  }
}

// The command line.
extension EventRequest {
  /// - Throws: `usage`, on one line.
  init(_ invocation: Invocation, mappings: [OutboxMapping]) throws(RelayError) {
    var outboxes: [String] = []
    for name in invocation.values("outbox") { outboxes.append(try Self.outbox(name, mappings, invocation)) }
    selection = EventSelection(
      outboxes: outboxes, aggregatetypes: invocation.values("aggregate-type"),
      subjects: invocation.values("aggregate-id"), types: invocation.values("type"),
      ids: invocation.values("id"))
    topic = invocation.value("topic")
    rate = try Self.rate(invocation)
    try Self.check(topic: topic, mappings, invocation)
    file = try Self.file(invocation)
  }

  /// Events a second.
  static func rate(_ invocation: Invocation) throws(RelayError) -> Int? {
    try invocation.number("rate", in: rates)
  }

  static func check(
    topic: String?, _ mappings: [OutboxMapping], _ invocation: Invocation
  ) throws(RelayError) {
    guard let topic, let fault = mappings.first?.allowedTopics.fault(topic) else { return }
    throw invocation.usage("--topic \"\(topic)\" \(fault.reason)")
  }

  private static func file(_ invocation: Invocation) throws(RelayError) -> String? {
    guard let name = invocation.value("to-file") else { return nil }
    if name == "" { throw invocation.usage("--to-file needs the name of a file, or - for standard output") }
    if invocation.isSet("dry-run") {
      throw invocation.usage("--dry-run writes nothing: it takes no --to-file")
    }
    if name == "-" {
      if invocation.isSet("json") {
        throw invocation.usage("--json and --to-file - would both write to standard output: name a file")
      }
      return name
    }
    if access(name, F_OK) == 0 {
      throw RelayError(
        .usage, "the file \(name) exists", remedy: "Name another file, or remove it: nothing is overwritten.")
    }
    return JobResumption.absolute(name)
  }

  private static func outbox(
    _ text: String, _ mappings: [OutboxMapping], _ invocation: Invocation
  ) throws(RelayError) -> String {
    do throws(ValueFault) {
      let (schema, table) = try ConfigurationValues.table(text)
      if let found = mappings.first(where: { $0.schema == schema && $0.table == table }) {
        return found.qualifiedName
      }
    } catch {
      // A name without its schema gets the same answer: the names that there are.
    }
    let names = mappings.map(\.qualifiedName)
    let unquoted = mappings.first { "\($0.schema).\($0.table)" == text }?.qualifiedName
    let question =
      (unquoted.map { "did you mean \($0)?" } ?? NearestName.question(text, among: names)).map { "; \($0)" }
      ?? ""
    throw invocation.usage(
      "--outbox \"\(text)\" is none of the configured outboxes (\(names.joined(separator: ", ")))\(question)")
  }
}

// JSON.
extension EventRequest {
  var members: [JSONValue.Member] {
    [
      .init("outboxes", .texts(selection.outboxes)),
      .init("aggregatetypes", .texts(selection.aggregatetypes)),
      .init("subjects", .texts(selection.subjects)),
      .init("types", .texts(selection.types)),
      .init("ids", .texts(selection.ids)),
      .init("topic", .optional(topic)),
      .init("file", .optional(file)),
      .init("rate", rate.map { .integer(Int64($0)) } ?? .null),
    ]
  }

  /// Nil where it asks for what the command line could not ask for.
  init?(_ json: JSONValue) {
    selection = EventSelection(
      outboxes: json["outboxes"].texts, aggregatetypes: json["aggregatetypes"].texts,
      subjects: json["subjects"].texts, types: json["types"].texts, ids: json["ids"].texts)
    topic = json["topic"]?.string
    file = json["file"]?.string
    rate = json["rate"]?.integer.flatMap { Int(exactly: $0) }
    guard topic.map({ CloudEventRules.isTopic($0) }) ?? true, rate.map({ Self.rates.contains($0) }) ?? true
    else { return nil }
  }
}
