// Owns: everything that a replay was asked for, as values and as the JSON that outboxd.job keeps.
// Must not know: the command line, how it is carried out.
import PostgresSource
import RelayCore

struct ReplayRequest: Equatable, Sendable {
  var plan: ReplayPlan
  var events = EventRequest()

  /// What the loop does otherwise than in live traffic.
  var options: RelayOptions {
    var selection = events.selection
    selection.from = plan.fromTime
    selection.to = plan.toTime
    return RelayOptions(
      replayMark: plan.origin.rawValue, topic: events.topic,
      selection: selection == EventSelection() ? nil : selection, hasPositions: plan.origin == .wal)
  }

  var json: JSONValue {
    .object(
      [
        .init("source", .text(plan.origin.rawValue)),
        .init("from", .text(plan.from.description)),
        .init("through", .text(plan.through.description)),
        // As numbers of microseconds since 2000: the text form is for people.
        .init("from_time", plan.fromTime.map { .integer($0) } ?? .null),
        .init("to_time", plan.toTime.map { .integer($0) } ?? .null),
        .init("published", .text(plan.published.description)),
        .init("lowest_transaction", .optional(plan.lowestTransaction.map { String($0) })),
        .init("end_transaction", .optional(plan.endTransaction.map { String($0) })),
        .init("notes", .texts(plan.notes)),
      ] + events.members)
  }

  /// Nil where the text is not a request of this version of outboxd.
  init?(json text: String) {
    guard let json = JSONReader.value(of: text), let events = EventRequest(json),
      let origin = json["source"]?.string.flatMap({ ReplayOrigin(rawValue: $0) }),
      let from = json["from"]?.string.flatMap({ LSN($0) }),
      let through = json["through"]?.string.flatMap({ LSN($0) }),
      let published = json["published"]?.string.flatMap({ LSN($0) })
    else { return nil }
    self.events = events
    plan = ReplayPlan(
      origin: origin, from: from, through: through, fromTime: json["from_time"]?.integer,
      toTime: json["to_time"]?.integer, published: published,
      lowestTransaction: json["lowest_transaction"]?.string.flatMap { UInt64($0) },
      endTransaction: json["end_transaction"]?.string.flatMap { UInt64($0) },
      notes: json["notes"].texts)
  }

  init(plan: ReplayPlan) { self.plan = plan }
}
