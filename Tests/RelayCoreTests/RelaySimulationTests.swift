import Synchronization
import Testing

@testable import RelayCore

/// Runs one world to its end, through crashes, broken connections and dead producers.
private func simulate(_ world: World) throws {
  let stop = StopSignal()
  let metrics = RelayMetrics()
  let log = Log(level: .error)
  func relay() -> Relay {
    let relay = Relay(
      mappings: [OutboxMapping()], database: "db", store: SimulatedStore(world), metrics: metrics, stop: stop,
      log: log)
    relay.reset(to: LSN(world.journal))
    relay.examine(with: SimulatedSight(world))
    return relay
  }
  var current = relay()
  var sink = SimulatedSink(world)
  current.use(sink)
  func recognize(_ through: UInt64) {
    guard world.recognizes else { return }
    world.recognizedThrough = max(world.recognizedThrough, through)
    current.recognize(SimulatedTails(world), through: LSN(through))
  }
  while !stop.isRequested {
    guard world.steps < 200_000 else {
      world.faults.append("it does not come to an end")
      return
    }
    let source = SimulatedSource(world, startLSN: current.checkpoint, stop: stop)
    do {
      try current.run(source, drainMilliseconds: 0)
      _ = current.finish(source, deadline: MonotonicTime.now().advanced(milliseconds: 1000))
      if current.isSettled { world.settle(current.checkpoint.rawValue) }
    } catch {
      switch error.kind {
      case .sourceUnavailable: world.interruptions += 1
      case .sinkFailed:
        world.sinkFailures += 1
        current.dropSink()
        sink = SimulatedSink(world)
        current.use(sink)
        recognize(current.resentThrough.rawValue)
      case .interrupted:
        world.crashes += 1
        // Some end in as good an order as they can. Whoever is told nothing of a process before does not know whether it has.
        let isDrained =
          world.recognizes && world.random.chance(3)
          && current.finish(nil, deadline: MonotonicTime.now().advanced(milliseconds: 1000))
        sink.abandon()
        if isDrained, current.isSettled { world.settle(current.checkpoint.rawValue) }
        // The slot falls back to what was on disk; only the journal is durable.
        world.confirmed = world.confirmedOnDisk
        world.journalPending = world.journal
        current = relay()
        sink = SimulatedSink(world)
        current.use(sink)
        recognize(world.walEnd)
      default: throw error
      }
    }
  }
  if world.recognizes, metrics.eventsResent.load(ordering: .relaxed) < world.duplicates {
    world.faults.append("\(world.duplicates) duplicates, and fewer are counted")
  }
  world.check()
}

@Suite struct RelaySimulationTests {
  @Test func `nothing is lost, order is kept and the checkpoint is never ahead, whatever fails`() throws {
    var steps = 0
    var crashes = 0
    var sinkFailures = 0
    var interruptions = 0
    while steps < 200_000 {
      let seed = freshSeed()
      let world = World(seed: seed)
      world.crashChance = [0, 50, 300].randomElement(using: &world.random)!
      world.sinkFailureChance = [0, 50, 300].randomElement(using: &world.random)!
      world.interruptionChance = [0, 30, 200].randomElement(using: &world.random)!
      try simulate(world)
      #expect(world.faults.isEmpty, "seed \(seed)")
      steps += world.steps
      crashes += world.crashes
      sinkFailures += world.sinkFailures
      interruptions += world.interruptions
      if !world.faults.isEmpty { break }
    }
    print(
      "simulated \(steps) steps, \(crashes) crashes, \(sinkFailures) dead producers, "
        + "\(interruptions) broken connections")
    #expect(crashes > 100 && sinkFailures > 100 && interruptions > 100)
  }

  @Test func `a broken connection to the source causes no duplicate`() throws {
    for _ in 0..<50 {
      let seed = freshSeed()
      let world = World(seed: seed)
      world.interruptionChance = 40
      try simulate(world)
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
      try simulate(world)
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
      try simulate(world)
      #expect(world.faults.isEmpty, "seed \(seed)")
      duplicates += world.duplicates
    }
    #expect(duplicates > 30)
  }

  @Test func `without a fault every event is sent once`() throws {
    for _ in 0..<50 {
      let seed = freshSeed()
      let world = World(seed: seed)
      try simulate(world)
      #expect(world.faults.isEmpty, "seed \(seed)")
      #expect(world.duplicates == 0 && world.settlements == 1, "seed \(seed)")
    }
  }
}
