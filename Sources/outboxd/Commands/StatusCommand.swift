// Owns: `outboxd status`.
import RelayCore

enum StatusCommand {
  static func run(_ invocation: Invocation) throws(RelayError) -> Int32 {
    throw RelayError(.failed, "not built yet")
  }
}
