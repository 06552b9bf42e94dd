// Owns: `outboxd demo`: from the command line to the demo, and its exit code.
// Must not know: what the demo starts.
import RelayCore

enum DemoCommand {
  static func run(_ invocation: Invocation) throws(RelayError) -> Int32 {
    let demo = try Demo(
      limit: try invocation.number("events", in: 1...1_000_000), postgres: invocation.value("postgres"),
      brokers: invocation.value("brokers"), environment: invocation.environment)
    var failure: RelayError?
    do throws(RelayError) {
      try demo.start()
      try demo.show()
    } catch {
      failure = error
    }
    let endFailure = demo.end(isFailed: failure != nil)
    if let failure = failure ?? endFailure, failure.kind != .interrupted { throw failure }
    return 0
  }
}
