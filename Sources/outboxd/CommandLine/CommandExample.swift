// Owns: an example in the help of a command.
// Must not know: how the command does its work.

struct CommandExample: Sendable {
  let command: String
  let meaning: String
}
