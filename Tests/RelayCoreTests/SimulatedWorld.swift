// A Postgres, a Kafka and a journal in memory, driven by one seeded source of randomness. Every call of the
// loop is a chance for something to go wrong.
import CSystem
import Glibc
import RelayCore

/// What the simulated servers know, and what is checked.
final class World {
  struct Event {
    var key: String
    var id: String
  }
  struct Transaction {
    var commitLSN: UInt64
    var endLSN: UInt64
    var events: [Event]
  }

  var random: SeededGenerator
  let transactions: [Transaction]
  /// Ends of WAL after the last transaction.
  let walEnd: UInt64
  var steps = 0
  /// Slot, as Postgres has it in memory and on disk.
  var confirmed: UInt64 = 0
  var confirmedOnDisk: UInt64 = 0
  /// The journal's checkpoint, on the server and on its standby.
  var journal: UInt64 = 0
  var standbyJournal: UInt64 = 0
  /// Counts the servers: a standby takes over from the former one.
  var server = 0
  /// Kafka's logs: the ids, in order, by key.
  var log: [String: [String]] = [:]
  var delivered: Set<String> = []
  var duplicates = 0
  var crashes = 0
  var sinkFailures = 0
  var interruptions = 0
  var failovers = 0
  var writerSteps = 0
  var settlements = 0
  var faults: [String] = []
  /// Chances: one in so many calls. Zero: never.
  var crashChance = 0
  var sinkFailureChance = 0
  var interruptionChance = 0
  var failoverChance = 0
  /// Whether the loop is told what Kafka holds, after a crash and for a new producer.
  var recognizes = false
  /// What Kafka holds is now and then not known.
  var doubts = false
  /// The loop has been told that it may send.
  var isAdmitted = true
  /// Up to here Kafka may hold events already.
  var recognizedThrough: UInt64 = 0

  init(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    var position: UInt64 = 1000
    var transactions: [Transaction] = []
    for number in 0..<Int.random(in: 20...120, using: &random) {
      position += UInt64.random(in: 1...50, using: &random)
      let count = random.chance(5) ? 0 : random.chance(10) ? 60 : Int.random(in: 1...6, using: &random)
      let events = (0..<count).map { index in
        Event(key: "k\(Int.random(in: 0..<7, using: &random))", id: "\(number).\(index)")
      }
      let commit = position
      position += UInt64.random(in: 1...9, using: &random)
      transactions.append(Transaction(commitLSN: commit, endLSN: position, events: events))
    }
    self.transactions = transactions
    self.random = random
    walEnd = position + 500
  }

  func append(_ key: String, _ id: String) {
    if !delivered.insert(id).inserted { duplicates += 1 }
    log[key, default: []].append(id)
  }

  /// The slot was told `lsn`: everything that ends at or below must be in Kafka, and in the journal.
  func confirm(_ lsn: UInt64) {
    if lsn > journal { faults.append("the slot was told \(lsn), the journal has \(journal)") }
    if lsn > walEnd { faults.append("the slot was told \(lsn), beyond the WAL") }
    for transaction in transactions where transaction.endLSN <= lsn {
      for event in transaction.events where !delivered.contains(event.id) {
        faults.append("the slot was told \(lsn), and \(event.id) is not in Kafka")
      }
    }
    confirmed = max(confirmed, lsn)
    if random.chance(3) { confirmedOnDisk = confirmed }
    if random.chance(3) { standbyJournal = journal }
  }

  /// A standby takes over: it has the WAL, and the journal and the slot as they were some time ago.
  func failOver() {
    failovers += 1
    server += 1
    journal = standbyJournal
    confirmedOnDisk = min(confirmedOnDisk, journal)
    confirmed = confirmedOnDisk
  }

  /// The relay has ended, and says that it has sent nothing beyond its checkpoint.
  func settle(_ checkpoint: UInt64) {
    settlements += 1
    for transaction in transactions where transaction.endLSN > checkpoint {
      for event in transaction.events where delivered.contains(event.id) {
        faults.append("\(event.id) is in Kafka, beyond the settled checkpoint \(checkpoint)")
      }
    }
  }

  /// First sights per key must be the committed order, and complete.
  func check() {
    var expected: [String: [String]] = [:]
    for transaction in transactions {
      for event in transaction.events { expected[event.key, default: []].append(event.id) }
    }
    for (key, ids) in expected {
      var seen: Set<String> = []
      let first = (log[key] ?? []).filter { seen.insert($0).inserted }
      if first != ids { faults.append("key \(key): first sights \(first), committed \(ids)") }
    }
  }
}

/// A descriptor that is always readable, so that the loop never waits.
final class ReadyDescriptor {
  let value: Int32
  init() { value = eventfd(1, 0) }
  deinit { close(value) }
}

final class SimulatedSource: ChangeSource {
  private let world: World
  private let stop: StopSignal
  private let ready = ReadyDescriptor()
  private var transaction: Int
  private var phase = 0
  private var sentRelation = false
  private var row: Row?

  init(_ world: World, startLSN: LSN, stop: StopSignal) {
    self.world = world
    self.stop = stop
    let start = max(startLSN.rawValue, world.confirmed)
    transaction = world.transactions.firstIndex { $0.commitLSN >= start } ?? world.transactions.count
  }

  var descriptor: Int32 { ready.value }
  var wantsWrite: Bool { false }
  var receivedBytes: UInt64 { 0 }
  var reportTime: MonotonicTime { .never }
  var relation: Relation {
    RelayCoreTests.relation([
      ("id", .text), ("aggregatetype", .text), ("aggregateid", .text), ("type", .text), ("payload", .text),
    ])
  }

  func next() throws(RelayError) -> Change? {
    world.steps += 1
    if world.crashChance > 0, world.random.chance(world.crashChance) {
      throw RelayError(.interrupted, "crash")
    }
    if world.interruptionChance > 0, world.random.chance(world.interruptionChance) {
      throw RelayError(.sourceUnavailable, "connection lost")
    }
    if world.failoverChance > 0, world.random.chance(world.failoverChance) {
      world.failOver()
      throw RelayError(.sourceUnavailable, "the server is gone")
    }
    if world.random.chance(6) { return nil }
    if !sentRelation {
      sentRelation = true
      return .relation
    }
    guard transaction < world.transactions.count else {
      return world.random.chance(2) ? .keepalive(walEnd: LSN(world.walEnd)) : nil
    }
    if phase == 0, world.random.chance(6) {
      // A keepalive may lie behind: decoding begins again at an older place.
      let before = transaction == 0 ? 0 : world.transactions[transaction - 1].endLSN
      return .keepalive(walEnd: LSN(world.random.chance(2) ? before / 2 : before))
    }
    return advance()
  }

  private func advance() -> Change {
    let current = world.transactions[transaction]
    let (commit, end) = (LSN(current.commitLSN), LSN(current.endLSN))
    phase += 1
    if phase == 1 { return .begin(commitLSN: commit, commitTime: 0, transactionID: 1) }
    if phase == 2 + current.events.count {
      phase = 0
      transaction += 1
      return .commit(commitLSN: commit, endLSN: end, commitTime: 0)
    }
    let event = current.events[phase - 2]
    let row = Row([.text(event.id), .text("t"), .text(event.key), .text("T"), .text("p")])
    self.row = row
    return .insert(row.view)
  }

  func report(flushed: LSN, now: MonotonicTime) throws(RelayError) {
    if flushed != .zero { world.confirm(flushed.rawValue) }
    if world.confirmed >= world.walEnd { stop.request() }
  }

  func finish(flushed: LSN, deadline: MonotonicTime) { world.confirm(flushed.rawValue) }
}

/// A producer with some partitions: order within one, none across. What is in flight when it is abandoned
/// reaches Kafka up to a random place of each partition, unacknowledged.
final class SimulatedSink: RecordSink {
  private struct Message {
    var key: String
    var id: String
    var tag: UInt64
  }
  private let world: World
  private let ready = ReadyDescriptor()
  private var partitions: [[Message]] = [[], [], []]
  private let capacity: Int

  init(_ world: World) {
    self.world = world
    capacity = Int.random(in: 1...20, using: &world.random)
  }

  var descriptor: Int32 { ready.value }
  /// The topic is now and then held.
  func answer(_ event: GateEvent) -> GateAnswer {
    guard world.random.chance(40) else { return .pass }
    return .wait(world.wait)
  }

  func send(_ record: Record, tag: UInt64) throws(RelayError) -> SendOutcome {
    if !world.isAdmitted { world.faults.append("a record is sent before the first sight") }
    if world.random.chance(40) { return .notAdmitted }
    if partitions.reduce(0, { $0 + $1.count }) >= capacity { return .full }
    let copy = CopiedRecord(record)
    let key = copy.keyText ?? ""
    let partition = Int(key.utf8.last ?? 0) % partitions.count
    partitions[partition].append(Message(key: key, id: copy.header("ce_id") ?? "", tag: tag))
    return .accepted
  }

  func drain(_ settle: (Delivery) -> Void) throws(RelayError) {
    world.steps += 1
    for index in partitions.indices where world.random.chance(2) {
      let count = Int.random(in: 0...partitions[index].count, using: &world.random)
      for message in partitions[index].prefix(count) {
        world.append(message.key, message.id)
        settle(Delivery(tag: message.tag, failure: nil))
      }
      partitions[index].removeFirst(count)
    }
    if world.sinkFailureChance > 0, world.random.chance(world.sinkFailureChance) {
      throw RelayError(.sinkFailed, "fatal")
    }
  }

  func abandon() {
    for partition in partitions {
      for message in partition.prefix(Int.random(in: 0...partition.count, using: &world.random)) {
        world.append(message.key, message.id)
      }
    }
    partitions = [[], [], []]
  }
}

/// Often has no answer at once.
final class SimulatedSight: FirstSight {
  private let world: World
  private(set) var isDone = false
  init(_ world: World) {
    self.world = world
    world.isAdmitted = false
  }

  func answer(_ event: GateEvent) -> GateAnswer {
    world.steps += 1
    isDone = isDone || world.random.chance(3)
    world.isAdmitted = isDone
    return isDone ? .pass : .wait(world.wait)
  }
}

/// Knows what is in Kafka, or not; now and then it has no answer.
final class SimulatedTails: DeliveredEvents {
  private(set) var hasBlocked = false
  private let world: World
  init(_ world: World) { self.world = world }

  func recognize(_ record: Record, _ place: EventSequence) -> Recognition {
    world.steps += 1
    hasBlocked = world.random.chance(10)
    if world.random.chance(5) { return .wait(world.wait) }
    let id = CopiedRecord(record).header("ce_id") ?? ""
    if place.commitLSN.rawValue > world.recognizedThrough {
      world.faults.append("\(id) is asked for, which nothing can have delivered before")
    }
    // The place must be that of this event.
    let transaction = world.transactions.first { $0.commitLSN == place.commitLSN.rawValue }
    if transaction?.events[Int(place.index)].id != id {
      world.faults.append("\(id) is asked for as \(place)")
    }
    if world.doubts, world.random.chance(3) { return .unknown }
    return world.delivered.contains(id) ? .there : .absent
  }
}

extension World {
  /// A wait that is over at once.
  var wait: GateWait { GateWait(for: "an answer", "there is none yet", until: MonotonicTime(nanoseconds: 0)) }
}
