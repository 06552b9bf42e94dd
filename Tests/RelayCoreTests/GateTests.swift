// Owns: each gate alone: when it lets an event pass, and for how long it holds it.
import Synchronization
import Testing

@testable import RelayCore

private func place(_ commitLSN: UInt64, _ index: UInt32 = 0) -> EventSequence {
  EventSequence(commitLSN: LSN(commitLSN), index: index)
}

private func ask(_ gate: any Gate, _ place: EventSequence, outstanding: Int = 0) throws -> GateAnswer {
  let none = LentBytes(start: nil, count: 0)
  let record = Record(
    topic: none, key: nil, value: nil, headers: UnsafeBufferPointer(start: nil, count: 0))
  return try gate.answer(GateEvent(record: record, place: place, outstanding: outstanding))
}

extension GateAnswer {
  fileprivate var passes: Bool { if case .pass = self { true } else { false } }
  fileprivate var isSkipped: Bool { if case .skip = self { true } else { false } }
  fileprivate var wait: GateWait? { if case .wait(let wait) = self { wait } else { nil } }
}

private final class Answers: DeliveredEvents {
  var next: [Recognition]
  var hasBlocked: Bool { true }
  init(_ next: [Recognition]) { self.next = next }
  func recognize(_ record: Record, _ place: EventSequence) -> Recognition { next.removeFirst() }
}

private final class Sight: FirstSight {
  var isDone = false
  func answer(_ event: GateEvent) -> GateAnswer {
    isDone = true
    return .pass
  }
}

@Suite struct GateTests {
  @Test func `up to the place of a refusal one record is in flight at a time, and behind it many`() throws {
    let gate = IsolationGate()
    gate.through = place(100, 2)
    #expect(try ask(gate, place(100, 2), outstanding: 0).passes)
    let wait = try #require(try ask(gate, place(100, 1), outstanding: 3).wait)
    #expect(wait.flushes && !wait.isOver(at: .now(), outstanding: 1))
    #expect(wait.isOver(at: .now(), outstanding: 0))
    #expect(try ask(gate, place(100, 3), outstanding: 3).passes)
    #expect(try ask(gate, place(101, 0), outstanding: 3).passes)
    _ = gate.pass(LSN(100))
    #expect(gate.isActive)
    _ = gate.pass(LSN(101))
    #expect(!gate.isActive)
  }

  @Test func `what Kafka holds is skipped, and what is not known is sent and counted`() throws {
    let gate = RecognitionGate()
    let later = GateWait(for: "an answer", "there is none", until: MonotonicTime(nanoseconds: 1))
    gate.recognize(Answers([.wait(later), .there, .absent, .unknown]), through: LSN(50))
    #expect(try ask(gate, place(10)).wait == later)
    #expect(try ask(gate, place(10)).isSkipped)
    #expect(try ask(gate, place(20)).passes)
    #expect(gate.resent == 0)
    #expect(try ask(gate, place(50)).passes)
    #expect(gate.resent == 1)
    // Behind the last place nobody is asked.
    #expect(try ask(gate, place(51)).passes)
  }

  @Test func `recognition lets go of what it knows once it is past, and begins again for a new producer`()
    throws
  {
    let gate = RecognitionGate()
    weak var known: Answers?
    do {
      let answers = Answers([])
      known = answers
      gate.recognize(answers, through: LSN(50))
    }
    _ = gate.pass(LSN(50))
    #expect(gate.isActive && known != nil)
    _ = gate.pass(LSN(51))
    #expect(!gate.isActive && known == nil)
    gate.resend(through: LSN(40))
    #expect(gate.isActive && gate.resentThrough == LSN(50))
  }

  @Test func `a gate that has nothing more to say is not asked`() throws {
    var gates = Gates(rate: nil)
    #expect(gates.active.isEmpty && !gates.hasBlocked)
    let sight = Sight()
    gates.examine(with: sight)
    gates.recognize(Answers([]), through: LSN(50))
    gates.isolate(through: place(60))
    #expect(gates.active.count == 3 && gates.hasBlocked)
    // First sight comes before recognition, and that before isolation.
    #expect(gates.active[0] === sight && gates.active[1] is RecognitionGate)
    #expect(gates.active[2] is IsolationGate)
    #expect(try ask(gates.active[0], place(1)).passes)
    gates.pass(LSN(55))
    #expect(gates.active.count == 1 && !gates.hasBlocked)
    gates.pass(LSN(61))
    #expect(gates.active.isEmpty)
  }

  @Test func `a wait is over at its time, at its descriptor, or when little enough is outstanding`() {
    let now = MonotonicTime(nanoseconds: 1_000)
    func wait(_ until: UInt64 = .max, descriptor: Int32? = nil, outstanding: Int? = nil) -> GateWait {
      GateWait(
        for: "x", "y", until: MonotonicTime(nanoseconds: until), descriptor: descriptor,
        outstanding: outstanding)
    }
    #expect(wait(1_000).isOver(at: now, outstanding: 9))
    #expect(!wait(1_001).isOver(at: now, outstanding: 0))
    #expect(wait(descriptor: 7).isOver(at: now, outstanding: 9))
    #expect(wait(outstanding: 3).isOver(at: now, outstanding: 3))
    #expect(!wait(outstanding: 3).isOver(at: now, outstanding: 4))
  }

  @Test func `a wait is told once its patience is over, and not longer than it lasts`() {
    let (metrics, log) = (RelayMetrics(), Log(level: .error))
    var report = WaitReport()
    let start = MonotonicTime(nanoseconds: 1_000_000_000)
    func note(_ reason: String, patience: Int?, after milliseconds: Int) {
      report.note(
        GateWait(for: "a topic", reason, until: .never, patience: patience), at: place(1),
        start.advanced(milliseconds: milliseconds), metrics, log)
    }
    note("slow", patience: 1_000, after: 0)
    note("slow", patience: 1_000, after: 999)
    #expect(metrics.hold == nil)
    note("slow", patience: 1_000, after: 1_000)
    #expect(metrics.hold == "slow")
    note("missing", patience: 0, after: 1_001)
    #expect(metrics.hold == "missing")
    // What follows is no reason to tell: the one before is over.
    note("busy", patience: nil, after: 1_002)
    #expect(metrics.hold == nil)
    report.end(metrics)
    #expect(metrics.hold == nil)
    note("busy", patience: nil, after: 60_000)
    note("busy", patience: nil, after: 90_000)
    #expect(metrics.hold == nil)
  }

  @Test func `where no broker can be reached, that comes before what waits for an answer`() {
    let metrics = RelayMetrics()
    metrics.hold = "a topic is compared"
    metrics.sinkFault = "no broker can be reached"
    #expect(metrics.waits == ["no broker can be reached", "a topic is compared"])
    metrics.kafkaBrokersUp.store(1, ordering: .relaxed)
    #expect(metrics.waits == ["a topic is compared", "no broker can be reached"])
    metrics.hold = metrics.sinkFault
    #expect(metrics.waits == ["no broker can be reached"])
  }
}
