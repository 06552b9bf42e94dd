// Owns: outboxd killed: at random moments, and when all was confirmed.
import Foundation
import Glibc
import RelayTesting
import Testing

extension Faults {
  @Suite struct CrashTests {
    static let cycles = 25

    @Test func `killed at random moments under load, nothing is lost and order is kept`() throws {
      var random = SeededGenerator("CrashTests")
      let scene = try Scene()
      let writers = try scene.workload.startLoad(size: 60, seed: UInt32(truncatingIfNeeded: random.next()))
      var large: [ChildProcess] = []
      for cycle in 1...Self.cycles {
        let relay = try scene.start(waitUntilReady: false)
        if cycle % 5 == 0 {
          // A transaction that is long enough to be killed within.
          large.append(
            try scene.server.startSQL(
              "SELECT workload.emit('orders', ARRAY[1, 2, 3, 4, 5, 6, 7], 20000)", database: "shop"))
        }
        // From before the first connection to some time within the stream.
        Faults.last(seconds: Double.random(in: 0.02...1.5, using: &random))
        try #require(relay.process.isRunning, "\(relay.tail)")
        relay.process.signal(SIGKILL)
        #expect(try relay.process.wait(seconds: 10) == -SIGKILL)
      }
      for process in large { #expect(try process.wait(seconds: 60) == 0, "\(process.errors)") }
      let relay = try scene.start()
      try scene.workload.stopLoad(writers)
      // Each kill lets a partition go back once, to the checkpoint.
      let verdict = try scene.finish(relay, duplicatesAllowed: true, rewinds: Self.cycles)
      #expect(verdict.ok, "\(verdict)")
      #expect(verdict.committed > 50_000)
    }

    @Test func `killed when all was confirmed, nothing is sent twice`() throws {
      let scene = try Scene()
      for seed in UInt32(1)...3 {
        let relay = try scene.start()
        try scene.workload.run(transactions: 20, size: 10, seed: seed)
        try scene.workload.settle(relay)
        relay.process.signal(SIGKILL)
        try relay.process.wait(seconds: 10)
      }
      let verdict = try scene.finish(try scene.start())
      #expect(verdict.ok, "\(verdict)")
    }
  }
}
