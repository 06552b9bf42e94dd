// START HERE. Owns: the loop, and the way of one row: source → encoder → sink → ledger → checkpoint → source.
// Must not know: Postgres, Kafka, files, the command line.
import CSystem
import Glibc
import Synchronization

/// The relay of one slot. Made and used on one thread; only `StopSignal` and `RelayMetrics` cross threads.
///
/// It outlives connections: a source that breaks off is followed by another one, and the records in flight,
/// the half-sent transaction and the checkpoint stay.
public final class Relay {
  private let store: any CheckpointStore
  private let metrics: RelayMetrics
  private let stop: StopSignal
  private let log: Log

  private var sink: (any RecordSink)?
  private var ledger = Ledger()
  private var encoder: EventEncoder
  private var pace: ReadingPace
  private let isAdaptive: Bool
  private var tally = TurnTally()

  // The transaction that is being read.
  private var isReading = false
  /// A stop is requested: nothing is read beyond the end of the transaction.
  private var isStopping = false
  private var commitLSN = LSN.zero
  private var commitTime: PostgresMicroseconds = 0
  private var rowIndex: UInt32 = 0
  private var isSelected = true
  /// Rows of this transaction that were sent before the source was interrupted.
  private var knownRows: UInt32 = 0

  /// The record that the sink did not take yet. Nothing is read while there is one.
  private var parked: Record?
  private var parkedUntilOutstanding = 0
  private var parkedIsHeld = false
  /// Whether Kafka has it already is not known yet.
  private var parkedIsUnknown = false

  /// Up to this commit LSN one record is in flight at a time: one of them was refused together with its
  /// neighbours, and only alone it can be told which.
  private var isolateThrough = (commitLSN: LSN.zero, index: UInt32(0))
  /// The newest commit LSN that a sink was given which has been dropped since, or a process before this one may have
  /// sent: up to there Kafka may have events that come again.
  public private(set) var resentThrough = LSN.zero
  /// What Kafka holds of the transactions up to `deliveredThrough`; nothing, and zero, once they are past. Not
  /// optional: a row would count its references.
  private var delivered: any DeliveredEvents = NothingDelivered()
  private var deliveredThrough = LSN.zero
  /// What is asked before the first record is sent, and whether it still is to be asked.
  private var firstLook: (any FirstLook)?
  private var isUnexamined = false
  private let selection: EventSelection?
  private var failure: RelayError?
  private var durable = LSN.zero
  /// The newest checkpoint when it was last seen that all of an older one was confirmed, and when that was.
  private var unconfirmed: (lsn: LSN, since: MonotonicTime)?

  public init(
    mappings: [OutboxMapping], database: String, store: any CheckpointStore, metrics: RelayMetrics,
    stop: StopSignal, log: Log, options: RelayOptions = RelayOptions()
  ) {
    self.store = store
    self.metrics = metrics
    self.stop = stop
    self.log = log
    selection = options.selection
    isAdaptive = options.isAdaptive
    pace = ReadingPace(isAdaptive: options.isAdaptive)
    encoder = EventEncoder(mappings: mappings, database: database, options: options)
  }

  /// Everything that ends at or below it is acknowledged.
  public var checkpoint: LSN { ledger.checkpoint }
  /// Records sent and not acknowledged.
  public var outstanding: Int { ledger.outstanding }
  /// True once a sink is there and has not failed.
  public var hasSink: Bool { sink != nil }

  /// Takes a sink. What the former had in flight is forgotten, and comes again from the source.
  public func use(_ sink: any RecordSink) {
    self.sink = sink
  }

  /// Events of transactions that committed at or below `through` are settled without being sent where `delivered` has
  /// them, and counted as sent again where that is not known. To be told before a source runs that sends them again. `delivered` is let go once they are past.
  public func recognize(_ delivered: any DeliveredEvents, through: LSN) {
    deliveredThrough = max(through, deliveredThrough)
    resentThrough = max(through, resentThrough)
    self.delivered = delivered
  }

  /// Has `look` asked about the next record, once, before that is sent.
  public func examine(with look: any FirstLook) {
    firstLook = look
    isUnexamined = true
  }

  /// Lets the sink go. The source must then start again at `checkpoint`.
  public func dropSink() {
    sink?.abandon()
    sink = nil
    resentThrough = max(resentThrough, ledger.newestCommitLSN)
    ledger.rewind()
    unpark()
  }

  /// Nothing was sent that is not acknowledged, and durable in the journal: the next process sends no event again. To be
  /// asked after `finish`.
  public var isSettled: Bool {
    ledger.transactions == 0 && resentThrough < ledger.checkpoint && durable >= ledger.checkpoint
  }

  /// Starts again at `checkpoint`: the source could not continue where this relay was.
  public func reset(to checkpoint: LSN) {
    resentThrough = max(resentThrough, ledger.newestCommitLSN)
    ledger.reset(to: checkpoint)
    durable = .zero
    unconfirmed = nil
  }

  /// Relays until a stop is requested, or a source of a closed range is at its end. Returns at the end of a
  /// transaction where that comes within half of `drainMilliseconds` after the request.
  /// - Throws: whatever the source or sink throw; `rowRejected` and `recordRejected` under the policy `halt`.
  public func run(_ source: any ChangeSource, drainMilliseconds: Int) throws(RelayError) {
    guard let sink else { throw RelayError(.sinkFailed, "no Kafka producer exists") }
    // What is parked is lent by the source, and goes with it.
    defer { unpark() }
    isReading = false
    pace = ReadingPace(isAdaptive: isAdaptive)
    outboxd_set_timer_slack(Tuning.Turn.timerSlack)
    var readDeadline = MonotonicTime.never
    while true {
      let now = MonotonicTime.now()
      if stop.isRequested {
        isStopping = true
        readDeadline = stop.requestTime.advanced(milliseconds: drainMilliseconds / 2)
        if !isReading || now >= readDeadline { return }
      }
      try settle()
      try progress(source, now)
      if source.isAtEnd, parked == nil { return }
      if let record = parked { try retry(record, sink, now) }
      // The one record in flight has no company to wait for.
      if parked != nil, isIsolated { sink.hasten(sleeping: Tuning.Linger.isolated) }
      if canRead {
        if try read(source, sink, delivered) { continue }
        if parked == nil, !source.waitsForLook, rest(source, now) { continue }
      }
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
    durable = max(durable, store.finish(ledger.checkpoint, deadline: deadline))
    metrics.turned(until: max(.now(), deadline))
    source?.finish(flushed: durable, deadline: deadline)
    publish(source)
    return isDrained
  }

  /// Looks after deliveries while there is no source. Returns when `deadline` has come or a stop is requested.
  public func idle(until deadline: MonotonicTime) throws(RelayError) {
    while !stop.isRequested, MonotonicTime.now() < deadline {
      try settle()
      storeCheckpoint()
      publish(nil)
      wait(nil, until: deadline)
    }
  }

  /// False while a record is parked, or too much waits behind one transaction: the socket then backs up to the
  /// server.
  private var canRead: Bool { parked == nil && ledger.transactions < Tuning.Turn.waitingTransactions }

  // MARK: The way of one row

  // What a row is handed to comes as an argument: to look it up in this object would count a reference up and down for
  // each row.

  /// Reads until the socket is empty, a record is parked, or the turn is over. True if there is more to read.
  private func read(
    _ source: any ChangeSource, _ sink: any RecordSink, _ delivered: any DeliveredEvents
  ) throws(RelayError) -> Bool {
    let end = MonotonicTime.now().advanced(milliseconds: Tuning.Turn.milliseconds)
    for count in 1...Tuning.Turn.messages {
      let change: Change?
      do throws(RelayError) {
        change = try source.next()
      } catch {
        throw rejected(error)
      }
      guard let change else { return false }
      try handle(change, source, sink, delivered)
      if parked != nil { return false }
      if isStopping, !isReading { return true }
      let hasBlocked = commitLSN <= deliveredThrough && delivered.hasBlocked
      if count % 16 == 0 || hasBlocked, MonotonicTime.now() >= end { return true }
    }
    return true
  }

  @inline(__always)
  private func handle(
    _ change: Change, _ source: any ChangeSource, _ sink: any RecordSink, _ delivered: any DeliveredEvents
  ) throws(RelayError) {
    switch change {
    case .insert(let row): try insert(row, sink, delivered)
    case .begin(let commitLSN, let commitTime, _): try begin(commitLSN, commitTime)
    case .commit(_, let endLSN, _): commit(endLSN)
    case .keepalive(let walEnd): keepalive(walEnd)
    case .relation: encoder.prepare(source.relation)
    case .update: ignoreUpdate()
    case .truncate: ignoreTruncate()
    case .delete, .message, .other: break
    }
  }

  private func begin(_ commitLSN: LSN, _ commitTime: PostgresMicroseconds) throws(RelayError) {
    let interrupted = ledger.newestCommitLSN
    self.commitLSN = commitLSN
    self.commitTime = commitTime
    rowIndex = 0
    isReading = true
    isSelected = selection?.admits(commitTime: commitTime) ?? true
    forgetDelivered(before: commitLSN)
    switch ledger.open(commitLSN: commitLSN, commitTime: commitTime) {
    case .new: knownRows = 0
    case .resumed(let rows): knownRows = rows
    case .known: knownRows = .max
    case .gap:
      throw RelayError(
        .streamMalformed,
        "the stream continues at \(commitLSN) without the rest of the transaction that committed at \(interrupted)",
        remedy: "Start outboxd again: it asks for everything after its checkpoint once more.")
    }
  }

  private func insert(
    _ row: RowView, _ sink: any RecordSink, _ delivered: any DeliveredEvents
  ) throws(RelayError) {
    guard isReading else {
      throw RelayError(.streamMalformed, "the server sent a row outside a transaction")
    }
    let index = rowIndex
    rowIndex &+= 1
    if index < knownRows { return }
    tally.received += 1
    let record: Record?
    do throws(RelayError) {
      record =
        isSelected ? try encoder.encode(row, commitLSN: commitLSN, commitTime: commitTime, index: index) : nil
    } catch {
      throw rejected(error)
    }
    guard let record else {
      tally.unselected += 1
      return ledger.skipped()
    }
    try offer(record, sink, delivered)
  }

  /// Sends the record of the row that was read last, unless Kafka has it already.
  private func offer(
    _ record: Record, _ sink: any RecordSink, _ delivered: any DeliveredEvents
  ) throws(RelayError) {
    if isUnexamined, try !isAdmitted(record) {
      parkedIsUnknown = true
      return park(record, untilOutstanding: .max)
    }
    if commitLSN <= deliveredThrough {
      switch delivered.presence(of: record, EventSequence(commitLSN: commitLSN, index: rowIndex &- 1)) {
      case nil:
        parkedIsUnknown = true
        return park(record, untilOutstanding: .max)
      case .there:
        tally.recognized += 1
        return ledger.skipped()
      case .absent: break
      case .unknown: tally.resent += 1
      }
    } else if commitLSN <= resentThrough {
      tally.resent += 1
    }
    try send(record, sink)
  }

  private func isAdmitted(_ record: Record) throws(RelayError) -> Bool {
    guard try firstLook?.admits(record) ?? true else { return false }
    isUnexamined = false
    firstLook = nil
    return true
  }

  private func send(_ record: Record, _ sink: any RecordSink) throws(RelayError) {
    if isIsolated, ledger.outstanding > 0 {
      return park(record, untilOutstanding: 0)
    }
    let outcome: SendOutcome
    do throws(RelayError) {
      outcome = try sink.send(record, tag: ledger.tag)
    } catch {
      throw error.kind == .recordRejected ? rejected(identified(error, record, commitLSN)) : error
    }
    switch outcome {
    case .accepted:
      ledger.sent()
    case .full:
      tally.queueFull += 1
      // Some room first: to go on at the first free place would cost a wake-up per record.
      park(record, untilOutstanding: ledger.outstanding - ledger.outstanding / 4 - 1)
    case .held:
      parkedIsHeld = true
      park(record, untilOutstanding: .max)
    }
  }

  /// True for a record that may be the one that Kafka refused together with its neighbours.
  private var isIsolated: Bool {
    commitLSN < isolateThrough.commitLSN
      || (commitLSN == isolateThrough.commitLSN && rowIndex <= isolateThrough.index)
  }

  private func park(_ record: Record, untilOutstanding limit: Int) {
    parked = record
    parkedUntilOutstanding = max(0, limit)
  }

  private func retry(
    _ record: Record, _ sink: any RecordSink, _ now: MonotonicTime
  ) throws(RelayError) {
    if let retryTime {
      guard now >= retryTime else { return }
    } else if ledger.outstanding > parkedUntilOutstanding {
      return
    }
    let isUnknown = parkedIsUnknown
    unpark()
    if isUnknown {
      try offer(record, sink, delivered)
    } else {
      try send(record, sink)
    }
  }

  /// When what is parked is worth another try; nil where that depends on what is in flight.
  private var retryTime: MonotonicTime? {
    if parkedIsUnknown { return isUnexamined ? firstLook?.retryTime : delivered.retryTime }
    return parkedIsHeld ? sink?.retryTime : nil
  }

  private func unpark() {
    parked = nil
    parkedIsHeld = false
    parkedIsUnknown = false
  }

  private func commit(_ endLSN: LSN) {
    isReading = false
    tally.transactions += 1
    tally.receivedLSN = max(tally.receivedLSN, endLSN)
    if knownRows != .max { ledger.close(endLSN: endLSN) }
    // Whatever comes next has committed behind it.
    forgetDelivered(before: endLSN)
  }

  private func keepalive(_ walEnd: LSN) {
    if !isReading {
      ledger.advance(to: walEnd)
      tally.receivedLSN = max(tally.receivedLSN, walEnd)
      forgetDelivered(before: walEnd)
    }
  }

  /// Nothing that committed before `lsn` is still to come.
  private func forgetDelivered(before lsn: LSN) {
    guard deliveredThrough != .zero, lsn > deliveredThrough else { return }
    delivered = NothingDelivered()
    deliveredThrough = .zero
  }

  private func ignoreUpdate() {
    metrics.ignoredUpdates.wrappingAdd(1, ordering: .relaxed)
    log.warning(
      "an UPDATE of an outbox table was ignored: only INSERTs are events",
      ("lsn", commitLSN.description), ("remedy", "Set publish = 'insert' in the publication."))
  }

  private func ignoreTruncate() {
    metrics.ignoredTruncates.wrappingAdd(1, ordering: .relaxed)
    log.warning(
      "a TRUNCATE of an outbox table was ignored: only INSERTs are events",
      ("lsn", commitLSN.description), ("remedy", "Set publish = 'insert' in the publication."))
  }

  // MARK: Rejection

  /// The place for policies other than `halt`: what is thrown here ends the stream.
  private func rejected(_ error: RelayError) -> RelayError {
    switch error.kind {
    case .rowRejected: metrics.rowsRejected.wrappingAdd(1, ordering: .relaxed)
    case .recordRejected: metrics.recordsRejected.wrappingAdd(1, ordering: .relaxed)
    default: break
    }
    return error
  }

  private func identified(_ error: RelayError, _ record: Record, _ commitLSN: LSN) -> RelayError {
    var error = error
    error.commitLSN = commitLSN
    let topic = String(decoding: record.topic, as: UTF8.self)
    error.message =
      "event \(EventShape.text(of: .id, in: record) ?? "unknown") for topic \(topic), of the transaction that committed at "
      + "\(commitLSN), was refused: \(error.message)"
    return error
  }

  // MARK: Deliveries and checkpoint

  private func settle() throws(RelayError) {
    guard let sink else { return }
    let now = postgresNow()
    var thrown: RelayError?
    do throws(RelayError) {
      try sink.drain { delivery in
        if let failure = delivery.failure {
          self.undelivered(failure, tag: delivery.tag)
        } else if let commitTime = self.ledger.settle(delivery.tag) {
          self.tally.delivered(latency: now &- commitTime)
        }
      }
    } catch {
      thrown = error
    }
    if tally.deliveries > 0 { metrics.lastDelivery.store(now, ordering: .relaxed) }
    if let failure {
      self.failure = nil
      throw failure
    }
    if let thrown { throw thrown }
  }

  /// The first failure decides; those that follow are its consequences.
  private func undelivered(_ failure: DeliveryFailure, tag: UInt64) {
    guard self.failure == nil else { return }
    guard failure.error.kind == .recordRejected else {
      self.failure = failure.error
      return
    }
    if failure.mayBeNeighbour, ledger.outstanding > 1 {
      // Nothing beyond the row that was read last can have been sent.
      isolateThrough = (commitLSN, rowIndex)
      self.failure = RelayError(
        .sinkFailed,
        "Kafka refused a batch of records: \(failure.error.message). They are sent again one by one, up to "
          + "\(commitLSN), to find the one that is refused", code: failure.error.code)
      return
    }
    let refused = ledger.commitLSN(of: tag) ?? commitLSN
    self.failure = rejected(identified(failure.error, failure.record, refused))
  }

  private func progress(_ source: any ChangeSource, _ now: MonotonicTime) throws(RelayError) {
    storeCheckpoint()
    try source.report(flushed: durable, now: now)
    publish(source)
  }

  private func storeCheckpoint() {
    metrics.eventsSettled.store(ledger.settled, ordering: .relaxed)
    durable = max(durable, store.store(ledger.checkpoint))
  }

  private func publish(_ source: (any ChangeSource)?) {
    tally.publish(to: metrics)
    let now = MonotonicTime.now()
    metrics.turned(until: now)
    noteUnconfirmed(now)
    encoder.omissions.publish(to: metrics, log)
    metrics.inFlightEvents.store(ledger.outstanding, ordering: .relaxed)
    metrics.inFlightTransactions.store(ledger.transactions, ordering: .relaxed)
    metrics.confirmedLSN.store(durable.rawValue, ordering: .relaxed)
    metrics.acknowledgedLSN.store(ledger.checkpoint.rawValue, ordering: .relaxed)
    metrics.oldestUnacknowledged.store(ledger.oldestCommitTime ?? .max, ordering: .relaxed)
    if let source {
      metrics.receivedBytes.store(source.receivedBytes, ordering: .relaxed)
    }
  }

  private func noteUnconfirmed(_ now: MonotonicTime) {
    if let unconfirmed, durable < unconfirmed.lsn { return }
    unconfirmed = ledger.checkpoint > durable ? (ledger.checkpoint, now) : nil
    metrics.unconfirmedSince.store(unconfirmed?.since.nanoseconds ?? 0, ordering: .relaxed)
  }

  // MARK: Waiting

  /// The socket is empty. Naps, or returns false when it is time to wait for more.
  private func rest(_ source: any ChangeSource, _ now: MonotonicTime) -> Bool {
    switch pace.rest(received: source.receivedBytes, isInTransaction: isReading, now: now) {
    case .wait: return false
    case .nap(let microseconds): usleep(microseconds)
    case .gather(let microseconds):
      if let sink { sink.hasten(sleeping: microseconds) } else { usleep(microseconds) }
    }
    return true
  }

  private func wait(_ source: (any ChangeSource)?, until deadline: MonotonicTime, beyondStop: Bool = false) {
    var timeout = 1000
    let now = MonotonicTime.now()
    timeout = now.milliseconds(until: deadline, limit: timeout)
    withUnsafeTemporaryAllocation(of: pollfd.self, capacity: 3) { entries in
      // SAFETY: three entries at most are initialised, and poll(2) is given their number.
      var count = 0
      func watch(_ descriptor: Int32, _ events: Int32) {
        entries.initializeElement(at: count, to: pollfd(fd: descriptor, events: Int16(events), revents: 0))
        count += 1
      }
      if let sink {
        watch(sink.descriptor, POLLIN)
        if let retryTime { timeout = now.milliseconds(until: retryTime, limit: timeout) }
      }
      if !beyondStop, !stop.isRequested { watch(stop.descriptor, POLLIN) }
      if let source {
        timeout = now.milliseconds(until: source.reportTime, limit: timeout)
        // While a record is parked nothing is read: the socket backs up to the server.
        let events = (canRead ? POLLIN : 0) | (source.wantsWrite ? POLLOUT : 0)
        watch(source.descriptor, events)
      }
      _ = poll(entries.baseAddress, nfds_t(count), Int32(timeout))
      // A connection that was hung up while nothing is read from it makes poll(2) return at once, until the next
      // report finds out.
      if source != nil, !canRead, entries[count - 1].revents & Int16(POLLHUP | POLLERR) != 0 {
        usleep(10_000)
      }
    }
  }
}
