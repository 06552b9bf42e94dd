// Owns: the promise of the relay in a world where everything fails, by seed.
import Synchronization
import Testing

@testable import RelayCore

/// Runs one world to its end, through crashes, broken connections, promoted standbys and dead producers.
private final class Simulation {
  private let world: World
  private let stop = StopSignal()
  private let metrics = RelayMetrics()
  private let log = Log(level: .error)
  private var journal: SimulatedJournal
  private var relay: Relay
  private var sink: SimulatedSink?
  /// The server that the relay's positions are of. Nil: a process has begun.
  private var server: Int?

  init(_ world: World) {
    self.world = world
    journal = SimulatedJournal(world, metrics: metrics)
    relay = Relay(
      mappings: [OutboxMapping()], database: "db", store: journal, metrics: metrics, stop: stop, log: log)
    relay.examine(with: SimulatedSight(world))
  }

  func run() throws {
    while !stop.isRequested {
      guard world.steps < 200_000 else {
        world.faults.append("it does not come to an end")
        return
      }
      do {
        try stream()
      } catch {
        try react(to: error)
      }
    }
    if world.recognizes, metrics.eventsResent.load(ordering: .relaxed) < world.duplicates {
      world.faults.append("\(world.duplicates) duplicates, and fewer are counted")
    }
    world.check()
  }

  private func stream() throws(RelayError) {
    let continues = server == world.server
    let start = continues ? relay.checkpoint : LSN(world.journal)
    journal.begin(at: start)
    // The relay does not know of the session yet.
    if relay.hasSink, world.random.chance(4) { try relay.idle(until: soon(microseconds: 50)) }
    if !continues {
      if server != nil { relay.dropSink() }
      relay.reset(to: start)
      server = world.server
    }
    let isNewSink = !relay.hasSink
    if isNewSink {
      let sink = SimulatedSink(world)
      relay.use(sink)
      self.sink = sink
    }
    if !continues {
      recognize(world.walEnd)
    } else if isNewSink {
      recognize(relay.resentThrough.rawValue)
    }
    let source = SimulatedSource(world, startLSN: start, stop: stop)
    try relay.run(source, drainMilliseconds: 0)
    _ = relay.finish(source, deadline: soon(microseconds: 1_000_000))
    if relay.isSettled { world.settle(relay.checkpoint.rawValue) }
  }

  private func react(to error: any Error) throws {
    switch (error as? RelayError)?.kind {
    case .sourceUnavailable: world.interruptions += 1
    case .sinkFailed:
      world.sinkFailures += 1
      relay.dropSink()
    case .interrupted: crash()
    default: throw error
    }
  }

  private func crash() {
    world.crashes += 1
    // Some end in as good an order as they can. Whoever is told nothing of a process before does not know whether it has.
    let isDrained =
      world.recognizes && world.random.chance(3)
      && relay.finish(nil, deadline: soon(microseconds: 1_000_000))
    sink?.abandon()
    if isDrained, relay.isSettled { world.settle(relay.checkpoint.rawValue) }
    // The slot falls back to what was on disk; only the journal is durable.
    world.confirmed = world.confirmedOnDisk
    journal = SimulatedJournal(world, metrics: metrics)
    relay = Relay(
      mappings: [OutboxMapping()], database: "db", store: journal, metrics: metrics, stop: stop, log: log)
    relay.examine(with: SimulatedSight(world))
    sink = nil
    server = nil
  }

  private func recognize(_ through: UInt64) {
    guard world.recognizes else { return }
    world.recognizedThrough = max(world.recognizedThrough, through)
    relay.recognize(SimulatedTails(world), through: LSN(through))
  }

  private func soon(microseconds: UInt64) -> MonotonicTime {
    MonotonicTime(nanoseconds: MonotonicTime.now().nanoseconds + microseconds * 1000)
  }
}

@Suite struct RelaySimulationTests {
  @Test func `nothing is lost, order is kept and the checkpoint is never ahead, whatever fails`() throws {
    var steps = 0
    var crashes = 0
    var sinkFailures = 0
    var interruptions = 0
    var failovers = 0
    while steps < 200_000 {
      let seed = freshSeed()
      let world = World(seed: seed)
      world.crashChance = [0, 50, 300].randomElement(using: &world.random)!
      world.sinkFailureChance = [0, 50, 300].randomElement(using: &world.random)!
      world.interruptionChance = [0, 30, 200].randomElement(using: &world.random)!
      world.failoverChance = [0, 40, 200].randomElement(using: &world.random)!
      try Simulation(world).run()
      #expect(world.faults.isEmpty, "seed \(seed)")
      steps += world.steps
      failovers += world.failovers
      crashes += world.crashes
      sinkFailures += world.sinkFailures
      interruptions += world.interruptions
      if !world.faults.isEmpty { break }
    }
    print(
      "simulated \(steps) steps, \(crashes) crashes, \(sinkFailures) dead producers, "
        + "\(interruptions) broken connections, \(failovers) promoted standbys")
    #expect(crashes > 100 && sinkFailures > 100 && interruptions > 100 && failovers > 100)
  }

  @Test func `a broken connection to the source causes no duplicate`() throws {
    for _ in 0..<50 {
      let seed = freshSeed()
      let world = World(seed: seed)
      world.interruptionChance = 40
      try Simulation(world).run()
      #expect(world.faults.isEmpty, "seed \(seed)")
      #expect(world.duplicates == 0, "seed \(seed)")
    }
  }

  @Test func `where it is known what Kafka holds, crashes and dead producers cause no duplicate`() throws {
    var crashes = 0
    var sinkFailures = 0
    for _ in 0..<30 {
      let seed = freshSeed()
      let world = World(seed: seed)
      world.recognizes = true
      world.crashChance = 60
      world.sinkFailureChance = 60
      world.interruptionChance = 60
      world.failoverChance = [0, 60].randomElement(using: &world.random)!
      try Simulation(world).run()
      #expect(world.faults.isEmpty, "seed \(seed)")
      #expect(world.duplicates == 0, "seed \(seed)")
      crashes += world.crashes
      sinkFailures += world.sinkFailures
    }
    #expect(crashes > 100 && sinkFailures > 100)
  }

  @Test func `what may come twice is counted, across processes, and an end in good order leaves nothing to`()
    throws
  {
    var duplicates = 0
    for _ in 0..<30 {
      let seed = freshSeed()
      let world = World(seed: seed)
      world.recognizes = true
      world.doubts = true
      world.crashChance = 60
      world.sinkFailureChance = [0, 60].randomElement(using: &world.random)!
      world.interruptionChance = 60
      world.failoverChance = [0, 60].randomElement(using: &world.random)!
      try Simulation(world).run()
      #expect(world.faults.isEmpty, "seed \(seed)")
      duplicates += world.duplicates
    }
    #expect(duplicates > 30)
  }

  @Test func `without a fault every event is sent once`() throws {
    for _ in 0..<50 {
      let seed = freshSeed()
      let world = World(seed: seed)
      try Simulation(world).run()
      #expect(world.faults.isEmpty, "seed \(seed)")
      #expect(world.duplicates == 0 && world.settlements == 1, "seed \(seed)")
    }
  }
}
