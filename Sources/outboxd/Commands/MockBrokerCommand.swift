// Owns: `outboxd mock-broker`: librdkafka's mock cluster in a process of its own.
// Must not know: who connects.
import Glibc
import KafkaSink
import RelayCore

enum MockBrokerCommand {
  /// Prints the bootstrap servers, and serves until standard input ends: the parent is gone then, or wants
  /// an end.
  static func run(_ invocation: Invocation) throws(RelayError) -> Int32 {
    let count = try invocation.number("brokers", in: 1...9) ?? 1
    let broker = try MockBroker(brokers: count)
    Terminal.printOutput(broker.bootstrapServers + "\n")
    withExtendedLifetime(broker) {
      var byte: UInt8 = 0
      while true {
        // SAFETY: read(2) writes one byte at most.
        let count = read(STDIN_FILENO, &byte, 1)
        if count == 0 || (count < 0 && errno != EINTR) { return }
      }
    }
    return 0
  }
}
