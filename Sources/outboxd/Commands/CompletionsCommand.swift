// Owns: `outboxd completions`.
// Must not know: how a script is written.
import RelayCore

enum CompletionsCommand {
  static func run(_ invocation: Invocation) throws(RelayError) -> Int32 {
    guard let name = invocation.arguments.first, let shell = Completions.Shell(rawValue: name) else {
      throw invocation.usage("completions needs the name of a shell")
    }
    Terminal.printOutput(Completions.script(for: shell))
    return 0
  }
}
