// Owns: what one command is called, takes and answers: the source of parsing, help and completions.
// Must not know: how the command does its work.
import RelayCore

struct CommandOption: Sendable {
  /// Without the dashes.
  let name: String
  var short: Character?
  /// What stands for the value in the help. Nil: the option is a flag.
  var value: String?
  var isRepeatable = false
  /// The values that there are. Empty: any.
  var choices: [String] = []
  /// The value is a file: completions offer files.
  var isFile = false
  /// Not in the help, nor in completions.
  var isHidden = false
  let help: String
}

struct CommandArgument: Sendable {
  let name: String
  var isRequired = false
  /// The values that there are, for completions and for a check. Empty: any.
  var choices: [String] = []
  let help: String
}

struct CommandExample: Sendable {
  let command: String
  let meaning: String
}

struct CommandDescription: Sendable {
  let name: String
  /// One line, for the list of commands.
  let summary: String
  /// A paragraph, for the command's own help. Lines are at most 100 characters long.
  var details = ""
  var arguments: [CommandArgument] = []
  var options: [CommandOption] = []
  let examples: [CommandExample]
  /// What the exit codes mean here, beyond 0, 2 and 78.
  var exitCodes: [Int32] = []
  var isHidden = false
  let run: @Sendable (Invocation) throws(RelayError) -> Int32

  /// `outboxd check [options]`
  var usage: String {
    let words = arguments.map { $0.isRequired ? $0.name : "[\($0.name)]" }
    return (["outboxd", name] + (options.isEmpty ? [] : ["[options]"]) + words).joined(separator: " ")
  }

  static let helpOption = CommandOption(name: "help", short: "h", help: "Print this help.")

  var allOptions: [CommandOption] { options + [Self.helpOption] }
}

/// A command as it was called.
struct Invocation: Sendable {
  let command: CommandDescription
  /// Values in their order; a flag has one empty value.
  let options: [String: [String]]
  let arguments: [String]
  let environment: [String: String]

  func isSet(_ option: String) -> Bool { options[option] != nil }

  func value(_ option: String) -> String? { options[option]?.last }

  func values(_ option: String) -> [String] { options[option] ?? [] }

  /// The option as a whole number within `range`, or nil where it is not given.
  /// - Throws: `usage`.
  func number(_ option: String, in range: ClosedRange<Int>) throws(RelayError) -> Int? {
    guard let text = value(option) else { return nil }
    guard let number = Int(text), range.contains(number) else {
      throw usage(
        "--\(option) must be a number from \(range.lowerBound) to \(range.upperBound), not \"\(text)\"")
    }
    return number
  }

  func usage(_ message: String) -> RelayError {
    RelayError(.usage, message, remedy: "See \"outboxd help \(command.name)\".")
  }

  /// What `--config`, `--set`, `--log-level`, `--log-format` and the environment say.
  /// - Throws: `usage` for a `--set` without `=`.
  func configurationRequest() throws(RelayError) -> ConfigurationRequest {
    var settings: [(key: String, value: String)] = []
    for text in values("set") {
      guard let equals = text.firstIndex(of: "="), equals != text.startIndex else {
        throw usage("--set needs KEY=VALUE, not \"\(text)\"")
      }
      settings.append((String(text[..<equals]), String(text[text.index(after: equals)...])))
    }
    if let level = value("log-level") { settings.append(("log.level", level)) }
    if let format = value("log-format") { settings.append(("log.format", format)) }
    return ConfigurationRequest(file: value("config"), settings: settings, environment: environment)
  }

  /// The configuration, checked as a whole. Warnings are logged.
  /// - Throws: `configurationInvalid` with one line for each fault, `usage`.
  func loadConfiguration() throws(RelayError) -> LoadedConfiguration {
    let request = try configurationRequest()
    do throws(ConfigurationInvalid) {
      let loaded = try ConfigurationLoader.load(request)
      let log = loaded.configuration.log.makeLog()
      for warning in loaded.warnings { log.warning("configuration", ("warning", warning.description)) }
      return loaded
    } catch {
      throw error.relayError
    }
  }
}
