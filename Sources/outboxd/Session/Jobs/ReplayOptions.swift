// Owns: the options of `outboxd replay`, checked before anything is connected to.
// Must not know: Postgres, Kafka.
import Glibc
import PostgresSource
import RelayCore

/// What the words of a replay that is not a resumed one say.
struct ReplayOptions: Equatable {
  var from: ReplayPlace
  var to: ReplayPlace?
  var origin: ReplayOrigin?
  var selection: EventSelection
  var topic: String?
  /// `-` is standard output.
  var file: String?
  var rate: Int?
  var isDryRun: Bool

  /// The options that a resumed replay brings with it.
  static let fixed = [
    "from", "to", "source", "outbox", "aggregate-type", "aggregate-id", "type", "id", "dry-run",
  ]

  /// - Throws: `usage`, on one line.
  init(
    _ invocation: Invocation, mappings: [OutboxMapping], now: PostgresMicroseconds
  ) throws(RelayError) {
    guard let from = invocation.value("from") else {
      throw RelayError(
        .usage, "replay needs --from, or --resume", remedy: "As --from write \(ReplayPlaceText.forms).")
    }
    self.from = try ReplayPlaceText.parse(from, option: "--from", now: now)
    if let to = invocation.value("to") {
      self.to = try ReplayPlaceText.parse(to, option: "--to", now: now)
    }
    origin = invocation.value("source").flatMap { ReplayOrigin(rawValue: $0) }
    var outboxes: [String] = []
    for name in invocation.values("outbox") { outboxes.append(try Self.outbox(name, mappings, invocation)) }
    selection = EventSelection(
      outboxes: outboxes, aggregatetypes: invocation.values("aggregate-type"),
      subjects: invocation.values("aggregate-id"), types: invocation.values("type"),
      ids: invocation.values("id"))
    topic = invocation.value("topic")
    file = invocation.value("to-file")
    rate = try Self.rate(invocation)
    isDryRun = invocation.isSet("dry-run")
    try check(mappings, invocation)
  }

  /// Events a second.
  static func rate(_ invocation: Invocation) throws(RelayError) -> Int? {
    try invocation.number("rate", in: rates)
  }

  private static let rates = 1...10_000_000

  /// Whether a job's row asks for what the command line could ask for.
  static func isSendable(topic: String?, rate: Int?) -> Bool {
    topic.map { CloudEventRules.isTopic($0) } ?? true && rate.map { rates.contains($0) } ?? true
  }

  /// For the log.
  static func place(topic: String?, file: String?) -> [Log.Field] {
    [("to", file ?? "Kafka"), ("topic", topic ?? "of each outbox")]
  }

  static func outbox(
    _ text: String, _ mappings: [OutboxMapping], _ invocation: Invocation
  ) throws(RelayError) -> String {
    do throws(ValueFault) {
      let (schema, table) = try ConfigurationValues.table(text)
      if let found = mappings.mapping(of: .table(schema: schema, name: table)) {
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

  private func check(_ mappings: [OutboxMapping], _ invocation: Invocation) throws(RelayError) {
    switch (from, to) {
    case (.lsn(let from), .lsn(let to)) where to < from:
      throw invocation.usage("--to \(to) lies before --from \(from)")
    case (.time(let from), .time(let to)) where to < from:
      throw invocation.usage(
        "--to \(RFC3339.shortest(microseconds: to)) lies before --from "
          + RFC3339.shortest(microseconds: from))
    default: break
    }
    try Self.check(topic: topic, mappings, invocation)
    if isDryRun, file != nil { throw invocation.usage("--dry-run writes nothing: it takes no --to-file") }
    if invocation.isSet("json"), file == "-" {
      throw invocation.usage("--json and --to-file - would both write to standard output: name a file")
    }
    if let file, file != "-", access(file, F_OK) == 0 {
      throw RelayError(
        .usage, "the file \(file) exists", remedy: "Name another file, or remove it: nothing is overwritten.")
    }
    if file == "" { throw invocation.usage("--to-file needs the name of a file, or - for standard output") }
  }

  static func check(
    topic: String?, _ mappings: [OutboxMapping], _ invocation: Invocation
  ) throws(RelayError) {
    guard let topic, let fault = mappings.first?.allowedTopics.fault(topic) else { return }
    throw invocation.usage("--topic \"\(topic)\" \(fault.reason)")
  }
}
