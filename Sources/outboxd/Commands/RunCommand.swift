// Owns: `outboxd run`.
import RelayCore

enum RunCommand {
  static func run(_ invocation: Invocation) throws(RelayError) -> Int32 {
    throw RelayError(.failed, "not built yet")
  }
}
