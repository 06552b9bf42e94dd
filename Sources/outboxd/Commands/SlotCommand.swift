// Owns: `outboxd slot`: the slots that belong to a configuration, and dropping the anchor.
// Must not know: catalog queries.
import PostgresSource
import RelayCore

enum SlotCommand {
  enum Action: String, CaseIterable {
    case show
    case dropAnchor = "drop-anchor"
  }

  static func run(_ invocation: Invocation) throws(RelayError) -> Int32 {
    guard let action = invocation.arguments.first.flatMap(Action.init) else {
      throw invocation.usage("slot needs an action: show or drop-anchor")
    }
    let settings = try invocation.loadConfiguration().configuration.postgres
    switch action {
    case .show: return try show(settings, json: invocation.isSet("json"))
    case .dropAnchor: return try dropAnchor(settings, json: invocation.isSet("json"))
    }
  }

  private static func show(_ settings: PostgresSettings, json: Bool) throws(RelayError) -> Int32 {
    let slots = try PostgresSource.slots(settings: settings, stop: StopSignal())
    if json {
      Terminal.printOutput(JSONValue.array(slots.map(\.json)).pretty)
    } else if slots.isEmpty {
      Terminal.printOutput("slot \"\(settings.slot)\" does not exist, and neither do its other slots\n")
    } else {
      Terminal.printOutput(slots.map(\.text).joined(separator: "\n"))
    }
    return slots.contains { $0.role == .main } ? 0 : 1
  }

  private static func dropAnchor(_ settings: PostgresSettings, json: Bool) throws(RelayError) -> Int32 {
    let name = ReplaySlots.anchor(of: settings.slot)
    let isDropped = try PostgresSource.dropAnchor(settings: settings, stop: StopSignal())
    if json {
      Terminal.printOutput(
        JSONValue.object([.init("slot", .text(name)), .init("dropped", .boolean(isDropped))]).pretty)
    } else if isDropped {
      let next =
        settings.replayWindow == nil
        ? ""
        : " A running outboxd with replay.window creates a new one within seconds; stop it, or set replay.window to off."
      Terminal.printOutput(
        "dropped \(name): its WAL is released and can no longer be replayed.\(next)\n")
    } else {
      Terminal.printOutput("there is no anchor: slot \"\(name)\" does not exist\n")
    }
    return 0
  }
}
