// Owns: a command as it was called, and the configuration that it loads.
// Must not know: how the command does its work.
import RelayCore

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
