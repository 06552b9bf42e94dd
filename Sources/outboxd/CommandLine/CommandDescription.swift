// Owns: what one command is called, takes and answers: the source of parsing, help and completions.
// Must not know: how the command does its work.
import RelayCore

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
