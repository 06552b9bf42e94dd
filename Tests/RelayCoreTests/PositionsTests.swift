// Owns: the order of the positions: what moves them, what is refused, what a source is told.
import Testing

@testable import RelayCore

@Suite struct PositionsTests {
  private static let session = CheckpointSession(1)

  /// Everything up to `delivered` was received and delivered.
  private func positions(delivered: UInt64, trap: @escaping (String) -> Void = { _ in }) throws -> Positions {
    var positions = Positions(trap: trap)
    positions.begin(Self.session, at: .zero)
    positions.receive(LSN(delivered))
    try positions.deliver(LSN(delivered))
    return positions
  }

  private func acknowledgement(
    _ lsn: UInt64, in session: CheckpointSession = session
  ) -> JournalAcknowledgement {
    JournalAcknowledgement(LSN(lsn), in: session)
  }

  @Test func `the source is told what the journal has, and no more`() throws {
    var positions = try positions(delivered: 20)
    #expect(positions.confirm() == .zero)
    try positions.acknowledge(acknowledgement(10), now: .now())
    #expect(positions.confirmed == .zero)
    #expect(positions.confirm() == LSN(10))
    #expect(positions.confirmed == LSN(10))
  }

  @Test func `an acknowledgement of a session that is over is refused`() throws {
    var positions = try positions(delivered: 20)
    let next = CheckpointSession(2)
    positions.begin(next, at: LSN(5))
    try positions.acknowledge(acknowledgement(20), now: .now())
    #expect(positions.confirm() == .zero)
    try positions.acknowledge(acknowledgement(5, in: next), now: .now())
    #expect(positions.confirm() == LSN(5))
  }

  @Test func `a session that goes on where the former was keeps what that one knew`() throws {
    var positions = try positions(delivered: 20)
    try positions.acknowledge(acknowledgement(15), now: .now())
    let next = CheckpointSession(2)
    positions.begin(next)
    // Its stream begins at an older place.
    positions.receive(LSN(12))
    try positions.acknowledge(acknowledgement(10, in: next), now: .now())
    #expect(positions.received == LSN(20) && positions.delivered == LSN(20))
    #expect(positions.confirm() == LSN(15))
  }

  @Test func `a source that starts elsewhere begins with what is before it as delivered`() throws {
    for start in [LSN(7), LSN(70)] {
      var positions = try positions(delivered: 20)
      try positions.acknowledge(acknowledgement(20), now: .now())
      positions.begin(CheckpointSession(2), at: start)
      #expect(positions.received == start && positions.delivered == start)
      #expect(positions.confirm() == .zero)
    }
  }

  @Test func `what is delivered beyond what was received, or behind what was delivered, is a fault`() throws {
    for checkpoint in [LSN(21), LSN(9)] {
      var trapped: [String] = []
      var positions = try positions(delivered: 10, trap: { trapped.append($0) })
      positions.receive(LSN(20))
      let error = #expect(throws: RelayError.self) { try positions.deliver(checkpoint) }
      #expect(error?.kind.reaction == .halt && error?.remedy != nil)
      #expect(trapped == [error?.message])
      #expect(positions.delivered == LSN(10))
    }
  }

  @Test func `a journal that claims more than was delivered is a fault, and is not believed`() throws {
    var trapped: [String] = []
    var positions = try positions(delivered: 10, trap: { trapped.append($0) })
    positions.receive(LSN(20))
    let error = #expect(throws: RelayError.self) {
      try positions.acknowledge(acknowledgement(11), now: .now())
    }
    #expect(error?.kind.reaction == .halt && trapped.count == 1)
    #expect(positions.confirm() == .zero)
  }

  @Test func `the age is that of the oldest position that is not confirmed, and ends with it`() throws {
    var positions = try positions(delivered: 100)
    let (first, second) = (MonotonicTime(nanoseconds: 1), MonotonicTime(nanoseconds: 2))
    try positions.acknowledge(acknowledgement(0), now: first)
    #expect(positions.unconfirmedSince == first)
    positions.receive(LSN(200))
    try positions.deliver(LSN(200))
    try positions.acknowledge(acknowledgement(50), now: second)
    #expect(positions.unconfirmedSince == first)
    try positions.acknowledge(acknowledgement(100), now: second)
    #expect(positions.unconfirmedSince == second)
    try positions.acknowledge(acknowledgement(200), now: second)
    #expect(positions.unconfirmedSince == nil)
  }

  @Test func `the order holds whatever comes in whatever order`() {
    var random = SeededGenerator(seed: freshSeed())
    var positions = Positions(trap: { _ in })
    for _ in 0..<10_000 {
      let lsn = LSN(UInt64.random(in: 0...30, using: &random))
      let session = CheckpointSession(UInt64.random(in: 0...2, using: &random))
      let before = positions
      switch Int.random(in: 0...9, using: &random) {
      case 0: positions.begin(session, at: random.chance(2) ? lsn : nil)
      case 1...3: positions.receive(lsn)
      case 4...5: try? positions.deliver(lsn)
      case 6...8:
        try? positions.acknowledge(JournalAcknowledgement(lsn, in: session), now: .now())
        if session != before.session { #expect(positions.journaled == before.journaled) }
      default: _ = positions.confirm()
      }
      #expect(positions.received >= positions.delivered && positions.delivered >= positions.journaled)
      #expect(positions.journaled >= positions.confirmed)
    }
  }
}
