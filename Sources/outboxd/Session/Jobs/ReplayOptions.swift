// Owns: the options of `outboxd replay`, checked before anything is connected to.
// Must not know: SQL, Kafka, how a replay is carried out.
import PostgresSource
import RelayCore

/// What the words of a replay that is not a resumed one say.
struct ReplayOptions: Equatable {
  var from: ReplayPlace
  var to: ReplayPlace?
  var origin: ReplayOrigin?
  var events: EventRequest
  var isDryRun: Bool

  /// The options that a resumed replay brings with it.
  static let fixed = ["from", "to", "source"] + EventRequest.fixed

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
    isDryRun = invocation.isSet("dry-run")
    events = try EventRequest(invocation, mappings: mappings)
    try checkOrder(invocation)
  }

  private func checkOrder(_ invocation: Invocation) throws(RelayError) {
    switch (from, to) {
    case (.lsn(let from), .lsn(let to)) where to < from:
      throw invocation.usage("--to \(to) is before --from \(from)")
    case (.time(let from), .time(let to)) where to < from:
      throw invocation.usage(
        "--to \(RFC3339.shortest(microseconds: to)) is before --from "
          + RFC3339.shortest(microseconds: from))
    default: break
    }
  }
}
