// Owns: the usual set: a Postgres with four outboxes, a Kafka, a relay; and the usual end of a test.
import Foundation
import Glibc

/// Numbers that look random and come again with the same seed. Set OUTBOXD_TEST_SEED to repeat a run.
public struct SeededGenerator: RandomNumberGenerator {
  public let seed: UInt64
  private var state: UInt64

  /// Prints the seed.
  public init(_ test: String) {
    seed =
      ProcessInfo.processInfo.environment["OUTBOXD_TEST_SEED"].flatMap { UInt64($0) }
      ?? UInt64.random(in: 1..<1_000_000)
    state = seed
    TestTools.say("\(test): OUTBOXD_TEST_SEED=\(seed)")
  }

  public init(seed: UInt64) {
    self.seed = seed
    state = seed
  }

  /// SplitMix64.
  public mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}

public final class Scene {
  public let server: PostgresServer
  public let kafka: KafkaCluster
  public let workload: Workload
  public var configuration: RelayConfiguration

  /// A database with the workload's outboxes, made ready by `outboxd init`.
  public init(
    version: Int = PostgresServer.defaultVersion, settings: [String: String] = [:],
    server: PostgresServer? = nil, kafka: KafkaCluster? = nil, initialize: Bool = true
  ) throws {
    let kafka = try kafka ?? KafkaCluster.shared()
    let server = try server ?? PostgresServer(version: version, settings: settings)
    self.server = server
    self.kafka = kafka
    workload = try Workload(server: server, kafka: kafka)
    configuration = workload.configuration()
    if initialize { try workload.initialize(configuration) }
  }

  public func start(waitUntilReady: Bool = true) throws -> OutboxdProcess {
    let relay = try OutboxdProcess(configuration)
    if waitUntilReady { try relay.waitUntilReady() }
    return relay
  }

  /// Waits until all is confirmed, ends the relay in good order, and asks the oracle.
  public func finish(
    _ relay: OutboxdProcess, duplicatesAllowed: Bool = false, rewinds: Int? = nil,
    unsequenced: Bool = false, within seconds: Double = 120
  ) throws -> Verdict {
    try workload.settle(relay, within: seconds)
    let status = try relay.terminate()
    guard status == 0 else { throw HarnessError("outboxd ended with \(status)\n\(relay.tail)") }
    let verdict = try workload.judge(
      duplicatesAllowed: duplicatesAllowed, rewinds: rewinds, unsequenced: unsequenced)
    TestTools.say("\(verdict.committed) events, \(verdict.duplicates) duplicates, \(verdict.rewinds) rewinds")
    return verdict
  }
}
