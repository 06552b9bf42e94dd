// Owns: what becomes of the anchor, fact by fact.
import RelayCore
import Testing

@testable import PostgresSource

private let mebibyte: UInt64 = 1 << 20

/// An anchor 100 MiB behind the end of the WAL, and a main slot 1 MiB behind.
private func facts(_ change: (inout AnchorFacts) -> Void = { _ in }) -> AnchorFacts {
  var main = SlotFacts(database: "shop", confirmedFlushLSN: LSN(999 * mebibyte))
  main.restartLSN = LSN(998 * mebibyte)
  main.walStatus = "reserved"
  var anchor = SlotFacts(database: "shop", confirmedFlushLSN: LSN(901 * mebibyte))
  anchor.restartLSN = LSN(900 * mebibyte)
  anchor.walStatus = "reserved"
  var facts = AnchorFacts(
    main: main, anchor: anchor, walEnd: LSN(1000 * mebibyte), checkpoint: LSN(999 * mebibyte))
  change(&facts)
  return facts
}

private func decide(
  maxBytes: UInt64 = 10 << 30, _ change: (inout AnchorFacts) -> Void = { _ in }
) -> AnchorAction {
  AnchorDecision(facts: facts(change), maxBytes: maxBytes).decide()
}

private func isDrop(_ action: AnchorAction) -> Bool { if case .drop = action { true } else { false } }

@Suite struct AnchorDecisionTests {
  @Test("Within the window nothing is done")
  func leave() {
    #expect(decide() == .leave)
    #expect(decide { $0.windowStart = LSN(901 * mebibyte) } == .leave)
    #expect(decide { $0.windowStart = LSN(800 * mebibyte) } == .leave)
  }

  @Test("It is made as soon as the main slot is well and the journal has a checkpoint")
  func create() {
    #expect(decide { $0.anchor = nil } == .create)
    let hindrances: [(inout AnchorFacts) -> Void] = [
      { $0.checkpoint = nil }, { $0.main = nil }, { $0.main?.walStatus = "extended" },
      { $0.main?.walStatus = "unreserved" }, { $0.main?.invalidationReason = "wal_removed" },
      { $0.main?.isTemporary = true }, { $0.sinceDrop = AnchorDecision.createDelay - 1 },
      { $0.main?.safeWALSize = 127 << 20 }, { $0.main?.restartLSN = nil },
    ]
    for hindrance in hindrances {
      let action = decide { facts in
        facts.anchor = nil
        hindrance(&facts)
      }
      #expect(action == .leave)
    }
    #expect(decide { ($0.anchor, $0.sinceDrop) = (nil, AnchorDecision.createDelay) } == .create)
    let isSafe = decide { facts in
      facts.anchor = nil
      facts.main?.safeWALSize = 129 << 20
    }
    #expect(isSafe == .create)
    let lacksRoom = ([127 << 20, 129 << 20, nil] as [Int64?]).map { safe in
      let facts = facts { facts in
        facts.anchor = nil
        facts.main?.safeWALSize = safe
      }
      return AnchorDecision(facts: facts, maxBytes: 10 << 30).lacksRoom
    }
    #expect(lacksRoom == [true, false, false])
    // A main slot that holds too much itself would make an anchor that does too.
    #expect(decide(maxBytes: mebibyte) { $0.anchor = nil } == .leave)
  }

  @Test("It follows the window in steps, and never beyond what is published for certain")
  func advance() {
    #expect(decide { $0.windowStart = LSN(950 * mebibyte) } == .advance(to: LSN(950 * mebibyte)))
    #expect(
      decide { facts in
        facts.windowStart = LSN(999 * mebibyte)
        facts.checkpoint = LSN(990 * mebibyte)
      } == .advance(to: LSN(990 * mebibyte)))
    #expect(
      decide { facts in
        facts.windowStart = LSN(999 * mebibyte)
        facts.main?.confirmedFlushLSN = LSN(980 * mebibyte)
      } == .advance(to: LSN(980 * mebibyte)))
    #expect(
      decide { facts in
        facts.windowStart = LSN(999 * mebibyte)
        facts.anchor?.confirmedFlushLSN = LSN(100 * mebibyte)
      } == .advance(to: LSN(356 * mebibyte)))
    #expect(decide { ($0.windowStart, $0.checkpoint) = (LSN(999 * mebibyte), nil) } == .leave)
    #expect(decide { $0.mustTouch = true } == .advance(to: LSN(901 * mebibyte)))
  }

  @Test("Danger for the primary ends it, however long the window is")
  func danger() {
    let dangers: [(inout AnchorFacts) -> Void] = [
      { $0.anchor?.walStatus = "unreserved" }, { $0.anchor?.walStatus = "lost" },
      { $0.anchor?.walStatus = nil }, { $0.anchor?.restartLSN = nil },
      { $0.anchor?.invalidationReason = "idle_timeout" }, { $0.anchor?.safeWALSize = (64 << 20) - 1 },
      { $0.anchor?.safeWALSize = -1 },
      { facts in
        facts.anchor?.safeWALSize = 900 << 20
        facts.keepSize = 10_000 << 20
      },
    ]
    for danger in dangers { #expect(isDrop(decide(danger))) }
    #expect(decide { $0.anchor?.walStatus = "extended" } == .leave)
    #expect(decide { $0.anchor?.safeWALSize = 64 << 20 } == .leave)
    let isEnough = decide { facts in
      facts.anchor?.safeWALSize = 1000 << 20
      facts.keepSize = 10_000 << 20
    }
    #expect(isEnough == .leave)
  }

  @Test("More bytes than allowed: it moves on, settles, moves to the end, and goes where it alone holds them")
  func bytes() {
    let limit = 50 * mebibyte
    #expect(
      decide(maxBytes: limit) { $0.bytesStart = LSN(970 * mebibyte) } == .advance(to: LSN(970 * mebibyte)))
    // Without an earlier checkpoint in reach: to what is published.
    #expect(decide(maxBytes: limit) == .advance(to: LSN(999 * mebibyte)))
    let isThere: (inout AnchorFacts) -> Void = { facts in
      facts.bytesStart = LSN(970 * mebibyte)
      facts.anchor?.confirmedFlushLSN = LSN(970 * mebibyte)
    }
    #expect(decide(maxBytes: limit, isThere) == .advance(to: LSN(970 * mebibyte)))
    #expect(
      decide(maxBytes: limit) { facts in
        isThere(&facts)
        facts.settledAt = LSN(970 * mebibyte)
      } == .advance(to: LSN(999 * mebibyte)))
    let isAtEnd: (inout AnchorFacts) -> Void = { facts in
      facts.anchor?.confirmedFlushLSN = LSN(999 * mebibyte)
      facts.settledAt = LSN(999 * mebibyte)
    }
    #expect(isDrop(decide(maxBytes: limit, isAtEnd)))
    // A long transaction holds the main slot just as far back: dropping would free nothing.
    #expect(
      decide(maxBytes: limit) { facts in
        isAtEnd(&facts)
        facts.main?.restartLSN = LSN(900 * mebibyte)
      } == .leave)
  }

  @Test("A slot of that name that is something else is left alone")
  func foreign() {
    let foreign: [(inout AnchorFacts) -> Void] = [
      { $0.anchor?.plugin = "test_decoding" }, { $0.anchor?.slotType = "physical" },
      { $0.anchor?.isTemporary = true }, { $0.anchor?.database = "other" },
    ]
    for change in foreign {
      #expect(
        decide { facts in
          facts.anchor?.walStatus = "lost"
          change(&facts)
        } == .leave)
    }
  }

  @Test("Names of slots fit Postgres' limit and stay apart")
  func names() {
    #expect(ReplaySlots.anchor(of: "outboxd") == "outboxd_anchor")
    let long = String(repeating: "a", count: 62)
    for name in ["outboxd", long + "b", long + "c"] {
      #expect(ReplaySlots.anchor(of: name).utf8.count <= 63)
      let temporary = ReplaySlots.temporary(of: name)
      #expect(temporary.utf8.count <= 63 && temporary.hasPrefix(ReplaySlots.temporaryPrefix(of: name)))
      #expect(
        temporary.utf8.allSatisfy { (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == 0x5F })
    }
    #expect(ReplaySlots.anchor(of: long + "b") != ReplaySlots.anchor(of: long + "c"))
  }
}
