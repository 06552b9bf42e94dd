// Owns: two relays on one slot.
import Foundation
import Glibc
import RelayTesting
import Testing

extension Faults {
  @Suite struct StandbyTests {
    @Test func `a standby takes over from a relay that is killed, and from one that ends`() throws {
      let scene = try Scene()
      let writers = try scene.workload.startLoad(seed: 3)
      var active = try scene.start()
      for killing in [true, false, true] {
        let standby = try scene.start(waitUntilReady: false)
        try standby.waitUntilNotReady(containing: "outboxd")
        #expect(try standby.get("/livez").status == 200)
        try Faults.waitForDeliveries(active, 200)
        let begin = Date()
        active.process.signal(killing ? SIGKILL : SIGTERM)
        #expect(try active.process.wait(seconds: 30) == (killing ? -SIGKILL : 0))
        try standby.waitUntilReady(within: 20)
        #expect(Date().timeIntervalSince(begin) < 15)
        active = standby
        try Faults.waitForDeliveries(active, 200)
      }
      try scene.workload.stopLoad(writers)
      // The one that takes over finds what was sent since the checkpoint.
      let verdict = try scene.finish(active)
      #expect(verdict.ok, "\(verdict)")
    }

    @Test func `a standby takes over from a relay that is frozen`() throws {
      let scene = try Scene(settings: ["wal_sender_timeout": "3s"])
      let writers = try scene.workload.startLoad(seed: 4)
      let frozen = try scene.start()
      let standby = try scene.start(waitUntilReady: false)
      try Faults.waitForDeliveries(frozen, 200)
      frozen.process.signal(SIGSTOP)
      try standby.waitUntilReady(within: 30)
      try Faults.waitForDeliveries(standby, 500)
      // The other wakes up, and must find that the slot is not its own any more.
      frozen.process.signal(SIGCONT)
      try frozen.waitUntilNotReady()
      try Faults.waitForDeliveries(standby, 500)
      try scene.workload.stopLoad(writers)
      try scene.workload.settle(standby)
      #expect(try frozen.terminate() == 0)
      // What the frozen one had handed to its producer arrives late, between newer events: duplicates in any
      // number of pieces. First deliveries are in order all the same.
      let verdict = try scene.finish(standby, duplicatesAllowed: true)
      #expect(verdict.ok, "\(verdict)")
    }
  }
}
