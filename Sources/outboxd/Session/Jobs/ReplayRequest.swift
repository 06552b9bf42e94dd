// Owns: everything that a replay was asked for, as values and as the JSON that outboxd.job keeps.
// Must not know: the command line, how it is carried out.
import PostgresSource
import RelayCore

struct ReplayRequest: Equatable, Sendable {
  var plan: ReplayPlan
  /// Without the times of the plan.
  var selection = EventSelection()
  /// In place of the mappings' topics. What a row says is compared with the command line: see `JobResumption.place`.
  var topic: String?
  /// An absolute path. Nil: Kafka. What a row says is shown, and never opened: see `JobResumption.place`.
  var file: String?
  var rate: Int?

  /// What the loop does otherwise than in live traffic.
  var options: RelayOptions {
    var selection = selection
    selection.from = plan.fromTime
    selection.to = plan.toTime
    return RelayOptions(
      replayMark: plan.origin.rawValue, topic: topic,
      selection: selection == EventSelection() ? nil : selection, hasPositions: plan.origin == .wal)
  }

  var json: JSONValue {
    .object([
      .init("source", .text(plan.origin.rawValue)),
      .init("from", .text(plan.from.description)),
      .init("through", .text(plan.through.description)),
      // As numbers of microseconds since 2000: the text form is for people.
      .init("from_time", plan.fromTime.map { .integer($0) } ?? .null),
      .init("to_time", plan.toTime.map { .integer($0) } ?? .null),
      .init("published", .text(plan.published.description)),
      .init("lowest_transaction", .optional(plan.lowestTransaction.map { String($0) })),
      .init("end_transaction", .optional(plan.endTransaction.map { String($0) })),
      .init("notes", Self.array(plan.notes)),
      .init("outboxes", Self.array(selection.outboxes)),
      .init("aggregatetypes", Self.array(selection.aggregatetypes)),
      .init("subjects", Self.array(selection.subjects)),
      .init("types", Self.array(selection.types)),
      .init("ids", Self.array(selection.ids)),
      .init("topic", .optional(topic)),
      .init("file", .optional(file)),
      .init("rate", rate.map { .integer(Int64($0)) } ?? .null),
    ])
  }

  /// Nil where the text is not a request of this version of outboxd.
  init?(json text: String) {
    guard let json = JSONReader.value(of: text),
      let origin = json["source"]?.string.flatMap({ ReplayOrigin(rawValue: $0) }),
      let from = json["from"]?.string.flatMap({ LSN($0) }),
      let through = json["through"]?.string.flatMap({ LSN($0) }),
      let published = json["published"]?.string.flatMap({ LSN($0) })
    else { return nil }
    plan = ReplayPlan(
      origin: origin, from: from, through: through, fromTime: Self.integer(json["from_time"]),
      toTime: Self.integer(json["to_time"]), published: published,
      lowestTransaction: json["lowest_transaction"]?.string.flatMap { UInt64($0) },
      endTransaction: json["end_transaction"]?.string.flatMap { UInt64($0) },
      notes: Self.texts(json["notes"]))
    selection = EventSelection(
      outboxes: Self.texts(json["outboxes"]), aggregatetypes: Self.texts(json["aggregatetypes"]),
      subjects: Self.texts(json["subjects"]), types: Self.texts(json["types"]), ids: Self.texts(json["ids"]))
    topic = json["topic"]?.string
    file = json["file"]?.string
    rate = Self.integer(json["rate"]).flatMap { Int(exactly: $0) }
    guard ReplayOptions.isSendable(topic: topic, rate: rate) else { return nil }
  }

  /// Where a resumed job goes on, for the log: its row was not written by this process.
  var place: [Log.Field] { ReplayOptions.place(topic: topic, file: file) }

  init(plan: ReplayPlan) { self.plan = plan }

  private static func array(_ texts: [String]) -> JSONValue { .array(texts.map { .text($0) }) }

  private static func texts(_ value: JSONValue?) -> [String] {
    guard case .array(let items) = value else { return [] }
    return items.compactMap(\.string)
  }

  private static func integer(_ value: JSONValue?) -> Int64? {
    if case .integer(let number) = value { number } else { nil }
  }
}
