// Owns: `outboxd help`.
// Must not know: how help is laid out.
import Glibc
import RelayCore

enum HelpCommand {
  static func run(_ invocation: Invocation) throws(RelayError) -> Int32 {
    let help = HelpText(isStyled: Terminal.wantsStyle(STDOUT_FILENO, environment: invocation.environment))
    guard let name = invocation.arguments.first else {
      Terminal.printStyledOutput(help.overview())
      return 0
    }
    guard let command = CommandTable.named(name) else {
      let question = NearestName.question(name, among: CommandTable.visible.map(\.name))
      throw RelayError(
        .usage, "unknown command \"\(name)\"" + (question.map { "; \($0)" } ?? ""),
        remedy: "See \"outboxd help\".")
    }
    Terminal.printStyledOutput(help.command(command))
    return 0
  }
}
