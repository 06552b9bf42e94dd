// Owns: the budget of allocations: none of Swift's for a row, from the WAL message to the settled delivery.
import Foundation
import RelayTesting
import Testing

/// What one thread has allocated on behalf of whom.
private struct Allocations {
  var swift: Int
  var librdkafka: Int
  var libpq: Int
  var other: Int

  static func - (left: Allocations, right: Allocations) -> Allocations {
    Allocations(
      swift: left.swift - right.swift, librdkafka: left.librdkafka - right.librdkafka,
      libpq: left.libpq - right.libpq, other: left.other - right.other)
  }
}

/// A release binary that runs with AllocationCounter/counter.c preloaded.
private final class CountedRelay {
  let relay: OutboxdProcess
  private let file: String

  init(_ configuration: RelayConfiguration) throws {
    let folder = TestFolder.make("allocations")
    let library = folder + "/counter.so"
    let source =
      URL(fileURLWithPath: #filePath).deletingLastPathComponent().path + "/AllocationCounter/counter.c"
    try ChildProcess.check(["clang", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", source, "-o", library])
    file = folder + "/counts"
    relay = try OutboxdProcess(
      configuration, environment: ["LD_PRELOAD": library, "ALLOCATION_COUNTER_FILE": file])
    try relay.waitUntilReady()
  }

  /// Of the relay's own thread, so far.
  func counts() throws -> Allocations {
    let wordsPerThread = 6
    let words = try Data(contentsOf: URL(fileURLWithPath: file)).withUnsafeBytes {
      Array($0.bindMemory(to: UInt64.self))
    }
    let task = "/proc/\(relay.process.processID)/task"
    for start in stride(from: 0, to: words.count, by: wordsPerThread) {
      let name = try? String(contentsOfFile: "\(task)/\(words[start])/comm", encoding: .utf8)
      guard name == "relay\n" else { continue }
      let counts = words[(start + 1)...(start + 4)].map { Int($0) }
      return Allocations(swift: counts[0], librdkafka: counts[1], libpq: counts[2], other: counts[3])
    }
    throw HarnessError("no thread named relay has allocated: \(words.prefix(24))")
  }
}

extension Integration {
  @Suite struct AllocationTests {
    @Test func `a row costs no allocation of Swift's on its way from the WAL to the checkpoint`() throws {
      let scene = try Scene()
      let counted = try CountedRelay(scene.configuration)
      /// Rows of all four outboxes, in transactions of a hundred.
      func relay(transactions: Int) throws -> Allocations {
        let before = try counted.counts()
        for target in ["orders", "payments", "inventory", "notifications"] {
          try scene.server.sql(
            (0..<transactions / 4).map { _ in
              "SELECT workload.emit('\(target)', ARRAY[1, 2, 3, 4, 5, 6, 7, 8], 100);"
            }.joined(), database: "shop")
        }
        try scene.workload.settle(counted.relay)
        return try counted.counts() - before
      }
      // First sights of tables and topics, and buffers that grow to the largest row.
      _ = try relay(transactions: 80)
      let once = try relay(transactions: 200)
      let twice = try relay(transactions: 400)
      let rows = 20_000
      func perRow(_ count: KeyPath<Allocations, Int>) -> Double {
        Double(twice[keyPath: count] - once[keyPath: count]) / Double(rows)
      }
      print(
        "allocations per row: Swift \(perRow(\.swift)), librdkafka \(perRow(\.librdkafka)), libpq "
          + "\(perRow(\.libpq)), others \(perRow(\.other)); Swift's: \(once.swift) for \(rows) rows, "
          + "\(twice.swift) for \(2 * rows)")
      // The counter is in force.
      #expect(perRow(\.libpq) >= 1)
      // What there is follows the clock: a topic's counts each second. Not the rows, and not the transactions.
      #expect(
        perRow(\.swift).magnitude < 0.005, "\(once.swift) for \(rows) rows, \(twice.swift) for twice as many")
      #expect(try counted.relay.terminate() == 0)
    }
  }
}
