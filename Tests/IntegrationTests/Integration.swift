// Owns: the suite that holds all tests with real servers: one after the other, as they measure.
import RelayTesting
import Testing

/// Needs a built outboxd and what `Tests/setup` installs.
@Suite(
  .serialized, .enabled(if: TestTools.outboxd != nil && TestTools.hasOracle, "needs outboxd and Tests/setup"))
enum Integration {}
