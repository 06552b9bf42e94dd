// Owns: the way from the words of a command line to an invocation.
// Must not know: any command by name, except `help` and `version` for their flags.
import RelayCore

enum CommandParser {
  /// - Throws: `usage`, with a suggestion where a word is nearly right.
  static func parse(_ words: [String], environment: [String: String]) throws(RelayError) -> Invocation {
    guard let first = words.first else {
      throw RelayError(.usage, "no command given", remedy: "See \"outboxd help\".")
    }
    switch first {
    case "-h", "--help": return try parse(["help"] + words.dropFirst().prefix(1), environment: environment)
    case "-V", "--version": return try parse(["version"] + words.dropFirst(), environment: environment)
    default: break
    }
    guard let command = CommandTable.named(first) else {
      let question = NearestName.question(first, among: CommandTable.visible.map(\.name))
      throw RelayError(
        .usage, "unknown command \"\(first)\"" + (question.map { "; \($0)" } ?? ""),
        remedy: "See \"outboxd help\".")
    }
    return try parse(Array(words.dropFirst()), of: command, environment: environment)
  }

  private static func parse(
    _ words: [String], of command: CommandDescription, environment: [String: String]
  ) throws(RelayError) -> Invocation {
    var options: [String: [String]] = [:]
    var arguments: [String] = []
    var rest = words[...]
    func usage(_ message: String) -> RelayError {
      RelayError(.usage, message, remedy: "See \"outboxd help \(command.name)\".")
    }
    while let word = rest.popFirst() {
      if word == "--" {
        arguments += rest
        break
      }
      guard word.hasPrefix("-"), word.count > 1 else {
        arguments.append(word)
        continue
      }
      let equals = word.hasPrefix("--") ? word.firstIndex(of: "=") : nil
      let written = String(word[..<(equals ?? word.endIndex)])
      guard
        let option = command.allOptions.first(where: { "--\($0.name)" == written || isShort($0, written) })
      else {
        let names = command.allOptions.filter { !$0.isHidden }.map { "--\($0.name)" }
        let question = NearestName.question(written, among: names)
        throw usage("\(command.name) has no option \(written)" + (question.map { "; \($0)" } ?? ""))
      }
      let value = try value(
        of: option, inline: equals.map { String(word[word.index(after: $0)...]) }, &rest, usage)
      guard option.isRepeatable || options[option.name] == nil || option.value == nil else {
        throw usage("--\(option.name) is given twice")
      }
      options[option.name, default: []].append(value)
    }
    let invocation = Invocation(
      command: command, options: options, arguments: arguments, environment: environment)
    if !invocation.isSet("help") { try checkArguments(arguments, of: command, usage) }
    return invocation
  }

  private static func isShort(_ option: CommandOption, _ word: String) -> Bool {
    option.short.map { "-\($0)" == word } ?? false
  }

  private static func value(
    of option: CommandOption, inline: String?, _ rest: inout ArraySlice<String>,
    _ usage: (String) -> RelayError
  ) throws(RelayError) -> String {
    guard let placeholder = option.value else {
      if inline != nil { throw usage("--\(option.name) takes no value") }
      return ""
    }
    guard let value = inline ?? rest.popFirst() else {
      throw usage("--\(option.name) needs a value: \(placeholder)")
    }
    guard option.choices.isEmpty || option.choices.contains(value) else {
      let question = NearestName.of(value, among: option.choices).map { "; did you mean \($0)?" } ?? ""
      throw usage(
        "--\(option.name) must be one of \(option.choices.joined(separator: ", ")), not \"\(value)\"\(question)"
      )
    }
    return value
  }

  private static func checkArguments(
    _ arguments: [String], of command: CommandDescription, _ usage: (String) -> RelayError
  ) throws(RelayError) {
    if arguments.count > command.arguments.count {
      throw usage("\(command.name) does not take \"\(arguments[command.arguments.count])\"")
    }
    for (index, argument) in command.arguments.enumerated() {
      guard index < arguments.count else {
        if argument.isRequired { throw usage("\(command.name) needs \(argument.name): \(argument.help)") }
        continue
      }
      guard argument.choices.isEmpty || argument.choices.contains(arguments[index]) else {
        throw usage(
          "\(argument.name) must be one of \(argument.choices.joined(separator: ", ")), not \"\(arguments[index])\""
        )
      }
    }
  }
}
