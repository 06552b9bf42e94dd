// Owns: an argument of a command.
// Must not know: how the command does its work.

struct CommandArgument: Sendable {
  let name: String
  var isRequired = false
  /// The values that there are, for completions and for a check. Empty: any.
  var choices: [String] = []
  let help: String
}
