// Owns: the entry point, and nothing else: what is written here is bound to the main actor.
// Must not know: what a command does.
import Glibc

@main
struct Outboxd {
  static func main() {
    if CommandLine.arguments.dropFirst().first == RunCommand.name {
      SignalWatch.block()
    } else {
      SignalWatch.endAtOnce()
    }
    exit(
      CommandLineProgram.run(
        Array(CommandLine.arguments.dropFirst()), environment: CommandLineProgram.processEnvironment()))
  }
}
