// Owns: `outboxd check`.
import RelayCore

enum CheckCommand {
  static func run(_ invocation: Invocation) throws(RelayError) -> Int32 {
    throw RelayError(.failed, "not built yet")
  }
}
