// START HERE. Owns: the loop, and the way of one row: source → encoder → gates → sink → ledger → checkpoint → source.
// Must not know: Postgres, Kafka, files, the command line.
import CSystem
import Glibc
import Synchronization

/// The relay of one slot. Made and used on one thread; only `StopSignal` and `RelayMetrics` cross threads.
///
/// It outlives connections: a source that breaks off is followed by another one, and the records in flight,
/// the half-sent transaction and the checkpoint stay.
public final class Relay {
  let store: any CheckpointStore
  let metrics: RelayMetrics
  let stop: StopSignal
  let log: Log
  private let selection: EventSelection?

  private(set) var sink: (any RecordSink)?
  var ledger = Ledger()
  var encoder: EventEncoder
  var gates: Gates
  private(set) var cursor = TransactionCursor()
  private var pace: ReadingPace
  var tally = TurnTally()
  /// What came last and may not go on yet. Nothing is read while there is one.
  private(set) var waiting: Waiting?
  private var report = WaitReport()
  /// A stop is requested: nothing is read beyond the end of the transaction.
  private var isStopping = false
  var failure: RelayError?
  var positions = Positions()

  /// A record that a gate holds, or a table's shape whose rows may not go out yet.
  struct Waiting {
    /// Nil: the shape.
    var record: Record?
    /// Which gate is asked next.
    var gate = 0
    var wait: GateWait
  }

  public init(
    mappings: [OutboxMapping], database: String, store: any CheckpointStore, metrics: RelayMetrics,
    stop: StopSignal, log: Log, options: RelayOptions = RelayOptions()
  ) {
    self.store = store
    self.metrics = metrics
    self.stop = stop
    self.log = log
    selection = options.selection
    gates = Gates(rate: options.rate)
    pace = ReadingPace(isAdaptive: options.isAdaptive)
    encoder = EventEncoder(mappings: mappings, database: database, options: options)
  }

  /// Everything that ends at or below it is acknowledged.
  public var checkpoint: LSN { ledger.checkpoint }
  /// Records sent and not acknowledged.
  public var outstanding: Int { ledger.outstanding }
  /// True once a sink is there and has not failed.
  public var hasSink: Bool { sink != nil }
  /// The newest commit LSN that a sink was given which has been dropped since, or a process before this one may have
  /// sent: up to there Kafka may have events that come again.
  public var resentThrough: LSN { gates.recognition.resentThrough }

  /// Takes a sink. What the former had in flight is forgotten, and comes again from the source.
  public func use(_ sink: any RecordSink) {
    self.sink = sink
  }

  /// Events of transactions that committed at or below `through` are settled without being sent where `delivered` has
  /// them, and counted as sent again where that is not known. To be told before a source runs that sends them again.
  /// `delivered` is let go once they are past.
  public func recognize(_ delivered: any DeliveredEvents, through: LSN) {
    gates.recognize(delivered, through: through)
  }

  /// Has `gate` examine the next record before that is sent.
  public func examine(with gate: any FirstSight) {
    gates.examine(with: gate)
  }

  /// Lets the sink go. The source must then start again at `checkpoint`.
  public func dropSink() {
    sink?.abandon()
    sink = nil
    gates.resend(through: ledger.newestCommitLSN)
    ledger.rewind()
    forgetWaiting()
  }

  /// Nothing was sent that is not acknowledged, and durable in the journal: the next process sends no event again. To be
  /// asked after `finish`.
  public var isSettled: Bool {
    ledger.transactions == 0 && resentThrough < ledger.checkpoint && positions.journaled >= ledger.checkpoint
  }

  /// Starts again at `checkpoint`: the source could not continue where this relay was.
  public func reset(to checkpoint: LSN) {
    gates.resend(through: ledger.newestCommitLSN)
    ledger.reset(to: checkpoint)
    report.end(metrics)
    positions.begin(store.session, at: checkpoint)
  }

  /// The source goes on where this relay was.
  public func resume() { positions.begin(store.session) }

  /// Relays until a stop is requested, or a source of a closed range is at its end. Returns at the end of a
  /// transaction where that comes within half of `drainMilliseconds` after the request.
  /// - Throws: whatever the source or sink throw; `rowRejected` and `recordRejected` under the policy `halt`.
  public func run(_ source: any ChangeSource, drainMilliseconds: Int) throws(RelayError) {
    guard let sink else { throw RelayError(.sinkFailed, "no Kafka producer exists") }
    // What waits is lent by the source, and goes with it.
    defer { forgetWaiting() }
    cursor.end()
    positions.begin(store.session)
    pace = ReadingPace(isAdaptive: pace.isAdaptive)
    outboxd_set_timer_slack(Tuning.Turn.timerSlack)
    var readDeadline = MonotonicTime.never
    while true {
      let now = MonotonicTime.now()
      // What was held when the source broke off has come again, and passed.
      if waiting == nil, tally.received > 0 { report.end(metrics) }
      if stop.isRequested {
        isStopping = true
        readDeadline = stop.requestTime.advanced(milliseconds: drainMilliseconds / 2)
        if !cursor.isOpen || now >= readDeadline { return }
      }
      try settle()
      try progress(source, now)
      if source.isAtEnd, waiting == nil { return }
      if let waiting { try goOn(with: waiting, source, sink, now) }
      if canRead {
        if try read(source, sink) { continue }
        if waiting == nil, rest(source, now) { continue }
      }
      if let wait = waiting?.wait { hold(wait, sink, now) }
      wait(source, until: readDeadline)
    }
  }

  /// Waits for what is in flight, then stores and confirms the checkpoint, and ends the stream in good order.
  /// - Returns: true if nothing is left in flight.
  public func finish(_ source: (any ChangeSource)?, deadline: MonotonicTime) -> Bool {
    while ledger.outstanding > 0, MonotonicTime.now() < deadline {
      do throws(RelayError) {
        try settle()
        if let source { try progress(source, .now()) }
      } catch {
        log.error("draining stopped", error, level: .warning)
        break
      }
      metrics.turned()
      if ledger.outstanding == 0 { break }
      wait(nil, until: deadline, beyondStop: true)
    }
    let isDrained = ledger.outstanding == 0
    metrics.eventsSettled.store(ledger.settled, ordering: .relaxed)
    do throws(RelayError) {
      try positions.deliver(ledger.checkpoint)
      let last = store.finish(positions.delivered, in: positions.session, deadline: deadline)
      try positions.acknowledge(last, now: .now())
    } catch {
      log.error("the last checkpoint is not confirmed", error)
    }
    metrics.turned(until: max(.now(), deadline))
    source?.finish(flushed: positions.confirm(), deadline: deadline)
    publish(source)
    return isDrained
  }

  /// Looks after deliveries while there is no source. Returns when `deadline` has come or a stop is requested.
  public func idle(until deadline: MonotonicTime) throws(RelayError) {
    while !stop.isRequested, MonotonicTime.now() < deadline {
      try settle()
      try storeCheckpoint(.now())
      publish(nil)
      wait(nil, until: deadline)
    }
  }

  /// False while something waits, or too much waits behind one transaction: the socket then backs up to the server.
  var canRead: Bool { waiting == nil && ledger.transactions < Tuning.Turn.waitingTransactions }

  // MARK: The way of one row

  // What a row is handed to comes as an argument: to look it up in this object would count a reference up and down for
  // each row.

  /// Reads until the socket is empty, something waits, or the turn is over. True if there is more to read.
  private func read(_ source: any ChangeSource, _ sink: any RecordSink) throws(RelayError) -> Bool {
    let end = MonotonicTime.now().advanced(milliseconds: Tuning.Turn.milliseconds)
    for count in 1...Tuning.Turn.messages {
      let change: Change?
      do throws(RelayError) {
        change = try source.next()
      } catch {
        throw rejected(error)
      }
      guard let change else { return false }
      try handle(change, source, sink)
      if waiting != nil { return false }
      if isStopping, !cursor.isOpen { return true }
      if count % 16 == 0 || gates.hasBlocked, MonotonicTime.now() >= end { return true }
    }
    return true
  }

  @inline(__always)
  private func handle(
    _ change: Change, _ source: any ChangeSource, _ sink: any RecordSink
  ) throws(RelayError) {
    switch change {
    case .insert(let row): try insert(row, sink)
    case .begin(let commitLSN, let commitTime, _): try begin(commitLSN, commitTime)
    case .commit(_, let endLSN, _): commit(endLSN)
    case .keepalive(let walEnd): keepalive(walEnd)
    case .relation: try takeShape(source)
    case .update: ignore("an UPDATE", metrics.ignoredUpdates)
    case .truncate: ignore("a TRUNCATE", metrics.ignoredTruncates)
    case .delete, .message, .other: break
    }
  }

  private func takeShape(_ source: any ChangeSource) throws(RelayError) {
    guard let wait = try source.shapeWait() else { return encoder.prepare(source.relation) }
    waiting = Waiting(record: nil, wait: wait)
  }

  private func begin(_ commitLSN: LSN, _ commitTime: PostgresMicroseconds) throws(RelayError) {
    let interrupted = ledger.newestCommitLSN
    gates.pass(commitLSN)
    let rowsSent: UInt32
    switch ledger.open(commitLSN: commitLSN, commitTime: commitTime) {
    case .new: rowsSent = 0
    case .resumed(let rows): rowsSent = rows
    case .known: rowsSent = .max
    case .gap:
      throw RelayError(
        .streamMalformed,
        "the stream continues at \(commitLSN) without the rest of the transaction that committed at \(interrupted)",
        remedy: "Start outboxd again: it asks for everything after its checkpoint once more.")
    }
    cursor.begin(
      commitLSN: commitLSN, commitTime: commitTime, rowsSent: rowsSent,
      isSelected: selection?.admits(commitTime: commitTime) ?? true)
  }

  private func insert(_ row: RowView, _ sink: any RecordSink) throws(RelayError) {
    guard cursor.isOpen else {
      throw RelayError(.streamMalformed, "the server sent a row outside a transaction")
    }
    let index = cursor.take()
    if index < cursor.rowsSent { return }
    tally.received += 1
    let record: Record?
    do throws(RelayError) {
      record =
        cursor.isSelected
        ? try encoder.encode(row, commitLSN: cursor.commitLSN, commitTime: cursor.commitTime, index: index)
        : nil
    } catch {
      throw rejected(error)
    }
    guard let record else { return skip(.unselected) }
    try pass(record, gate: 0, sink)
  }

  /// Asks the gates from `gate` on, the sink last, and sends the record where all pass.
  @inline(__always)
  private func pass(_ record: Record, gate first: Int, _ sink: any RecordSink) throws(RelayError) {
    let event = GateEvent(record: record, place: cursor.place, outstanding: ledger.outstanding)
    var gate = first
    while gate < gates.active.count {
      let answer = try gates.active[gate].answer(event)
      guard case .pass = answer else { return try follow(answer, record, gate) }
      gate += 1
    }
    let answer = try sink.answer(event)
    guard case .pass = answer else { return try follow(answer, record, gate) }
    try send(record, gate, sink)
  }

  /// Does what a gate says that does not let the record pass.
  private func follow(_ answer: GateAnswer, _ record: Record, _ gate: Int) throws(RelayError) {
    switch answer {
    case .pass: askAgain(record, gate)
    case .skip(let reason): skip(reason)
    case .wait(let wait): waiting = Waiting(record: record, gate: gate, wait: wait)
    case .divert(let rejection): throw rejected(identified(rejection, record, cursor.commitLSN))
    }
  }

  private func skip(_ reason: SkipReason) {
    switch reason {
    case .unselected: tally.unselected += 1
    case .recognized: tally.recognized += 1
    }
    ledger.skipped()
  }

  @inline(__always)
  private func send(_ record: Record, _ gate: Int, _ sink: any RecordSink) throws(RelayError) {
    let outcome: SendOutcome
    do throws(RelayError) {
      outcome = try sink.send(record, tag: ledger.tag)
    } catch {
      throw error.kind == .recordRejected ? rejected(identified(error, record, cursor.commitLSN)) : error
    }
    switch outcome {
    case .accepted: ledger.sent()
    case .full: waitForRoom(record, gate)
    case .notAdmitted:
      let event = GateEvent(record: record, place: cursor.place, outstanding: ledger.outstanding)
      try follow(try sink.answer(event), record, gate)
    }
  }

  private func askAgain(_ record: Record, _ gate: Int) {
    waiting = Waiting(
      record: record, gate: gate,
      wait: GateWait(
        for: "a topic", "its topic no longer takes records", until: MonotonicTime(nanoseconds: 0),
        patience: nil))
  }

  /// Some room first: to go on at the first free place would cost a wake-up per record.
  private func waitForRoom(_ record: Record, _ gate: Int) {
    tally.queueFull += 1
    let limit = max(0, ledger.outstanding - ledger.outstanding / 4 - 1)
    waiting = Waiting(
      record: record, gate: gate,
      wait: GateWait(
        for: "acknowledgements", "as many records are in flight as may be", outstanding: limit,
        patience: nil))
  }

  /// Asks again where the wait is over.
  private func goOn(
    with waiting: Waiting, _ source: any ChangeSource, _ sink: any RecordSink, _ now: MonotonicTime
  ) throws(RelayError) {
    guard waiting.wait.isOver(at: now, outstanding: ledger.outstanding) else { return }
    self.waiting = nil
    if let record = waiting.record {
      try pass(record, gate: waiting.gate, sink)
    } else {
      try takeShape(source)
    }
    if self.waiting == nil { report.end(metrics) }
  }

  private func hold(_ wait: GateWait, _ sink: any RecordSink, _ now: MonotonicTime) {
    report.note(wait, at: cursor.place, now, metrics, log)
    if wait.flushes { sink.flush(sleeping: Tuning.Linger.isolated) }
  }

  /// A record comes again, and its reason stands until it has passed.
  private func forgetWaiting() {
    if let waiting, waiting.record == nil { report.end(metrics) }
    waiting = nil
  }

  private func commit(_ endLSN: LSN) {
    cursor.end()
    tally.transactions += 1
    positions.receive(endLSN)
    if !cursor.isKnown { ledger.close(endLSN: endLSN) }
    // Whatever comes next has committed behind it.
    gates.pass(endLSN)
  }

  private func keepalive(_ walEnd: LSN) {
    guard !cursor.isOpen else { return }
    ledger.advance(to: walEnd)
    positions.receive(walEnd)
    gates.pass(walEnd)
  }

  private func ignore(_ statement: String, _ count: borrowing Atomic<UInt64>) {
    count.wrappingAdd(1, ordering: .relaxed)
    log.warning(
      "\(statement) of an outbox table was ignored: only INSERTs are events",
      ("lsn", cursor.commitLSN.description), ("remedy", "Set publish = 'insert' in the publication."))
  }

  /// The socket is empty. Naps, or returns false when it is time to wait for more.
  private func rest(_ source: any ChangeSource, _ now: MonotonicTime) -> Bool {
    switch pace.rest(received: source.receivedBytes, isInTransaction: cursor.isOpen, now: now) {
    case .wait: return false
    case .nap(let microseconds): usleep(microseconds)
    case .gather(let microseconds):
      if let sink { sink.flush(sleeping: microseconds) } else { usleep(microseconds) }
    }
    return true
  }
}
