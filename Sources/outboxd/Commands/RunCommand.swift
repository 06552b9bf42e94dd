// Owns: `outboxd run`.
// Must not know: threads, signals.
import RelayCore

enum RunCommand {
  static let name = "run"

  static func run(_ invocation: Invocation) throws(RelayError) -> Int32 {
    AllocatorTuning.apply(invocation.environment)
    return try Daemon.run(invocation.loadConfiguration().configuration)
  }
}
