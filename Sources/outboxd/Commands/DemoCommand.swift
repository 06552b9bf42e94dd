// Owns: `outboxd demo`.
import RelayCore

enum DemoCommand {
  static func run(_ invocation: Invocation) throws(RelayError) -> Int32 {
    throw RelayError(.failed, "not built yet")
  }
}
