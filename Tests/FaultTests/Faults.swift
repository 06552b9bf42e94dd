// Owns: the suite that holds all faults, and what they have in common: load, a fault, one oracle.
import Foundation
import RelayTesting
import Testing

/// Needs a built outboxd and what `Tests/setup` installs.
@Suite(
  .serialized,
  .enabled(
    if: TestTools.outboxd != nil && TestTools.hasOracle && KafkaCluster.isReal,
    "needs outboxd, Tests/setup and a real Kafka: the embedded one keeps 5 MB of a partition"))
enum Faults {
  /// Runs `fault` while writers write, then lets everything settle and asks the oracle.
  /// - Parameter rewinds: how often a partition may go back; 0 forbids duplicates.
  static func run(
    _ name: String, scene: Scene, rewinds: Int?, within seconds: Double = 120,
    location: SourceLocation = #_sourceLocation, fault: (OutboxdProcess) throws -> Void
  ) throws {
    var random = SeededGenerator(name)
    let relay = try scene.start()
    var writers = try scene.workload.startLoad(pause: 0.02, seed: UInt32(truncatingIfNeeded: random.next()))
    try waitForDeliveries(relay, 200)
    try fault(relay)
    // A restart of Postgres ends them.
    if writers.contains(where: { !$0.isRunning }) {
      writers += try scene.workload.startLoad(pause: 0.02, seed: UInt32(truncatingIfNeeded: random.next()))
    }
    try relay.waitUntilReady(within: seconds)
    try waitForDeliveries(relay, 200)
    try scene.workload.stopLoad(writers)
    let verdict = try scene.finish(
      relay, duplicatesAllowed: rewinds != 0, rewinds: rewinds, within: seconds)
    #expect(verdict.ok, "\(verdict)", sourceLocation: location)
  }

  /// Waits until so many more events are delivered.
  static func waitForDeliveries(_ relay: OutboxdProcess, _ count: Double) throws {
    let before = try relay.metric("outboxd_events_delivered_total") ?? 0
    try eventually("\(count) more events are delivered\n\(relay.tail)", within: 60) {
      (try? relay.metric("outboxd_events_delivered_total") ?? 0) ?? 0 >= before + count
    }
  }

  /// Lets the fault last. The one place where a test waits for time to pass.
  static func last(seconds: Double) { Thread.sleep(forTimeInterval: seconds) }
}
