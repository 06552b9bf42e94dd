// Owns: the form of the help. Examples come first.
// Must not know: any command by name.

struct HelpText {
  /// Bold headings, where the reader is a terminal that wants them.
  var isStyled = false

  func overview() -> String {
    let commands = CommandTable.visible
    let width = commands.map(\.name.count).max() ?? 0
    var text =
      "outboxd relays committed rows of outbox tables from Postgres' WAL to Kafka, as CloudEvents.\n\n"
    text +=
      heading("Examples")
      + examples([
        CommandExample(command: "outboxd demo --events 20", meaning: "see it work, with nothing set up"),
        CommandExample(command: "outboxd init", meaning: "the SQL that a database needs"),
        CommandExample(command: "outboxd check", meaning: "examine everything"),
        CommandExample(command: "outboxd run --config outboxd.yaml", meaning: "relay"),
      ])
    text += heading("Usage") + "  outboxd COMMAND [options]\n\n"
    text += heading("Commands") + commands.map { "  \(pad($0.name, width))  \($0.summary)\n" }.joined() + "\n"
    text += "\"outboxd help COMMAND\" explains a command.\n\n"
    text += heading("Exit codes") + exitCodes(ExitCodes.all.map(\.code))
    return text
  }

  func command(_ command: CommandDescription) -> String {
    var text = command.summary + "\n\n"
    text += heading("Examples") + examples(command.examples)
    text += heading("Usage") + "  \(command.usage)\n\n"
    if !command.details.isEmpty { text += command.details + "\n\n" }
    if !command.arguments.isEmpty {
      text += heading("Arguments") + rows(command.arguments.map { ($0.name, $0.help) }) + "\n"
    }
    let options = command.allOptions.filter { !$0.isHidden }
    text += heading("Options") + rows(options.map { (label($0), description($0)) }) + "\n"
    let codes = Set([0, 2] + command.exitCodes + (takesConfiguration(command) ? [78] : []))
    text += heading("Exit codes") + exitCodes(codes.sorted())
    return text
  }

  private func takesConfiguration(_ command: CommandDescription) -> Bool {
    command.options.contains { $0.name == "config" }
  }

  private func label(_ option: CommandOption) -> String {
    (option.short.map { "-\($0), " } ?? "    ") + "--\(option.name)" + (option.value.map { " \($0)" } ?? "")
  }

  private func description(_ option: CommandOption) -> String {
    option.choices.isEmpty
      ? option.help : option.help + " One of " + option.choices.joined(separator: ", ") + "."
  }

  private func heading(_ text: String) -> String {
    isStyled ? "\u{1B}[1m\(text)\u{1B}[0m\n" : "\(text):\n"
  }

  private func examples(_ examples: [CommandExample]) -> String {
    examples.map { "  \($0.command)\n      \($0.meaning)\n" }.joined() + "\n"
  }

  private func exitCodes(_ codes: [Int32]) -> String {
    codes.map { "  \(pad(String($0), 3))  \(ExitCodes.meaning(of: $0) ?? "")\n" }.joined()
  }

  private func rows(_ rows: [(String, String)]) -> String {
    let width = rows.map(\.0.count).max() ?? 0
    return rows.map { "  \(pad($0.0, width))  \($0.1)\n" }.joined()
  }

  private func pad(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(0, width - text.count))
  }
}
