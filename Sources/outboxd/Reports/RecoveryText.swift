// Owns: a recovery in words and as JSON: what is wrong, what is in doubt, what is done.
// Must not know: how a plan is made.
import PostgresSource
import RelayCore

/// A recovery in words.
struct RecoveryText {
  private let plan: RecoveryPlan
  private let slot: String
  private let tables: [RecoveredTable]
  private let since: PostgresMicroseconds?
  private let hasSlot: Bool

  init(_ recovery: Recovery, _ since: PostgresMicroseconds?) {
    plan = recovery.plan
    slot = recovery.settings.slot
    tables = recovery.tables
    hasSlot = recovery.facts.slot != nil
    self.since = since
  }

  /// What is wrong, what is in doubt, what is done about it.
  private var lines: [(String, String)] {
    guard plan.action != .nothing else {
      let read = hasSlot ? ", and its stream can be read up to \(end)" : ""
      return [("state", "nothing is in doubt on slot \"\(slot)\"\(read): outboxd run continues by itself")]
    }
    var list: [(String, String)] = []
    if let fault = plan.fault { list.append(("fault", fault.message)) }
    list.append(("in doubt", range))
    list.append(("remedy", remedy))
    list += tables.map { table in
      ("reads", table.name + (table.outbox.map { ", which had rows of \($0)" } ?? ""))
    }
    return list
  }

  var text: String {
    lines.map { name, value in
      name + String(repeating: " ", count: max(1, 10 - name.utf8.count))
        + PrintableText.escapingControls(value) + "\n"
    }.joined()
  }

  private var range: String {
    plan.from.map { "what was committed from \($0) to \(end)" }
      ?? "everything that was committed up to \(end)"
  }

  private var end: String { plan.through?.description ?? "the end of the WAL" }

  private var remedy: String {
    switch plan.action {
    case .nothing: "none is needed"
    case .rewind(let lsn):
      "the checkpoint goes back to \(lsn), which this server's history has too, and the stream sends everything after it"
    case .wal(_, let slot):
      slotText(slot) + "the anchor still has the WAL from there on: exactly this range is published from it"
    case .tables(let lowest, let slot):
      slotText(slot) + "every row of the tables "
        + (lowest.map { "of transaction \($0) and later ones " } ?? "")
        + (since.map { "since \(RFC3339.string(microseconds: $0)) " } ?? "")
        + "is published, including those published before; deleted rows cannot be published"
        + (plan.place.map { ", except those after \($0), which the slot still has" } ?? "")
    case .adopt(let place, let slot):
      (place == nil ? slotText(slot) : "")
        + "outboxd run continues at \(place?.description ?? "a new place"); what is in doubt is given up"
    }
  }

  private func slotText(_ slot: RecoveryPlan.Slot) -> String {
    switch slot {
    case .create: "the slot is created; "
    case .replace: "the slot, which cannot be read, is dropped and created; "
    case .keep: ""
    }
  }

  func members(_ cut: SlotStart?) -> [JSONValue.Member] {
    var name = "nothing"
    var lowest: UInt64?
    switch plan.action {
    case .nothing: break
    case .rewind: name = "rewind"
    case .wal: name = "wal"
    case .tables(let transaction, _): (name, lowest) = ("tables", transaction)
    case .adopt: name = "adopt"
    }
    return [
      .init("action", .text(name)),
      .init("fault", .optional(plan.fault?.kind.rawValue)),
      .init("message", .optional(plan.fault?.message)),
      .init("from_lsn", .optional(plan.from?.description)),
      .init("through_lsn", .optional(plan.through?.description)),
      .init("lowest_transaction", lowest.map { .unsigned($0) } ?? .null),
      .init(
        "tables",
        .array(
          tables.map {
            .object([.init("table", .text($0.name)), .init("former_outbox", .optional($0.outbox))])
          })),
      .init("since", .optional(since.map { RFC3339.string(microseconds: $0) })),
      .init("start_lsn", .optional(cut.map { (plan.place ?? $0.lsn).description })),
    ]
  }
}
