// Owns: `outboxd mock-broker`.
import RelayCore

enum MockBrokerCommand {
  static func run(_ invocation: Invocation) throws(RelayError) -> Int32 {
    throw RelayError(.failed, "not built yet")
  }
}
