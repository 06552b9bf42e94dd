// Owns: one fault or warning of the configuration, with its place, and the list of them as an error.
// Must not know: how a setting is read.
import RelayCore

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
