// Owns: `outboxd config`.
// Must not know: any key by name.
import RelayCore

enum ConfigCommand {
  static func run(_ invocation: Invocation) throws(RelayError) -> Int32 {
    if invocation.isSet("schema") {
      Terminal.printOutput(ConfigurationSchema.json.pretty)
    } else if invocation.isSet("keys") {
      Terminal.printOutput(keys())
    } else {
      let loaded = try invocation.loadConfiguration()
      let file = loaded.file.map { PrintableText.escapingControls($0) } ?? "no file"
      Terminal.printOutput("# \(file), environment and flags\n")
      Terminal.printOutput(ConfigurationPrinter.yaml(loaded.configuration))
    }
    return 0
  }

  /// A table in Markdown: the README's reference.
  static func keys() -> String {
    var text = "| Key | Default | Meaning |\n| --- | --- | --- |\n"
    for key in ConfigurationKey.all {
      let defaultText = key.defaultText.map { "`\($0)`" } ?? (key.isRequired ? "needed" : "")
      var help = key.help
      if case .choice(let names) = key.kind {
        help += " One of " + names.map { "`\($0)`" }.joined(separator: ", ") + "."
      }
      text += "| `\(key.path)` | \(defaultText) | \(help) |\n"
    }
    return text
  }
}
