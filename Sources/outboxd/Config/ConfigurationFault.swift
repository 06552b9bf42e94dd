// Owns: one fault or warning of the configuration, with its place, and the list of them as an error.
// Must not know: how a setting is read.
import RelayCore

/// A place in a file. Both count from 1.
struct SourcePosition: Equatable, Sendable {
  var line: Int
  var column: Int
}

/// Where a setting comes from.
enum SettingOrigin: Equatable, Sendable {
  case file(String, SourcePosition)
  /// The name of the environment variable.
  case environment(String)
  /// The flag as it was written, `--set postgres.slot`.
  case flag(String)
}

struct ConfigurationFault: Equatable, Sendable {
  /// The file, or the environment variable, or the flag.
  var file: String
  /// From 1; 0 where there is no place in a file.
  var line: Int
  var column: Int
  var message: String
  /// What to do, or the name that was probably meant.
  var suggestion: String?
  /// It is about who may read or write what: `outboxd check` lists it under security.
  var isSecurity: Bool

  init(
    _ origin: SettingOrigin, _ message: String, suggestion: String? = nil, isSecurity: Bool = false
  ) {
    self.isSecurity = isSecurity
    switch origin {
    case .file(let name, let position):
      file = name
      line = position.line
      column = position.column
    case .environment(let name), .flag(let name):
      file = name
      line = 0
      column = 0
    }
    self.message = message
    self.suggestion = suggestion
  }
}

extension ConfigurationFault {
  /// It is about a flag, which `ps` shows.
  var isOnCommandLine: Bool { line == 0 && file.hasPrefix("--") }
}

extension ConfigurationFault: CustomStringConvertible {
  /// `file:line:column: message; suggestion`, on one line.
  var description: String {
    let place = line > 0 ? "\(file):\(line):\(column)" : file
    let text = "\(place): \(message)" + (suggestion.map { "; \($0)" } ?? "")
    return PrintableText.escapingControls(text)
  }
}

/// All faults of one configuration.
struct ConfigurationInvalid: Error, Equatable, Sendable {
  var faults: [ConfigurationFault]

  /// One line for each fault. The command line prints them as they are, and exits with 78.
  var relayError: RelayError {
    RelayError(.configurationInvalid, faults.map(\.description).joined(separator: "\n"))
  }
}
