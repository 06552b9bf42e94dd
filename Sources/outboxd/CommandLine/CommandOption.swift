// Owns: an option of a command.
// Must not know: how the command does its work.

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
