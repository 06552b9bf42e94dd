// START HERE for what runs. Owns: the life of a relay over the sources that follow each other: open, run, react to what
// failed, wait, again.
// Must not know: protocol bytes, the way of a row, whether it is the daemon's or a job's.
import PostgresSource
import RelayCore
import Synchronization

/// Runs one relay until a stop, a failure that nothing here repairs, or the end of its source. What differs between
/// the daemon and a job is in its `SessionUse`. Confined to the relay's thread, which it is made on.
final class Session {
  enum End {
    /// The source came to its end, and everything is acknowledged.
    case complete
    /// A stop was requested.
    case stopped
    case failed(RelayError)

    /// What kept the source from its end: `interrupted` for a stop. Nil: it is complete.
    var failure: RelayError? {
      switch self {
      case .complete: nil
      case .stopped: RelayError(.interrupted, "interrupted")
      case .failed(let error): error
      }
    }
  }

  private let use: any SessionUse
  private let metrics: RelayMetrics
  private let stop: StopSignal
  private let log: Log

  private var relay: Relay?
  private var sourceBackOff = BackOff()
  private var sinkBackOff = BackOff(first: 500, lasting: 120_000)
  private var isStandby = false
  private var hasStreamed = false
  /// A source was lost, and there is no other yet.
  private var hasLostSource = false
  /// Nothing is read or sent any more.
  private var isFinished = false

  init(_ use: any SessionUse, metrics: RelayMetrics, stop: StopSignal, log: Log) {
    self.use = use
    self.metrics = metrics
    self.stop = stop
    self.log = log
  }

  /// To be called once.
  func run() -> End {
    while !stop.isRequested {
      do throws(RelayError) {
        return try stream() ? .complete : .stopped
      } catch {
        if stop.isRequested {
          if error.kind != .interrupted { log.error("failed while stopping", error, level: .warning) }
          break
        }
        if let fatal = react(to: error) { return .failed(fatal) }
      }
    }
    if !isFinished { _ = finish(nil) }
    return .stopped
  }

  // MARK: One source

  /// One source, from its opening to its end. True where that is the end of the session, and nothing is in flight.
  private func stream() throws(RelayError) -> Bool {
    let source = try use.open(after: relay)
    let relay = try prepare(for: source)
    noteStream()
    defer { metrics.postgresConnected.store(false, ordering: .relaxed) }
    let changes = source.changes
    var isAtEnd = false
    do throws(RelayError) {
      try relay.run(changes, drainMilliseconds: use.readingLimit)
      isAtEnd = changes.isAtEnd && !stop.isRequested
      while !stop.isRequested, relay.outstanding > 0 {
        try relay.idle(until: MonotonicTime.now().advanced(milliseconds: 20))
      }
    } catch  where error.kind.reaction == .applyPolicy || error.kind == .tableUnsuitable {
      // The source itself is sound: what is acknowledged before the row is confirmed.
      _ = finish(changes)
      throw error
    }
    return finish(changes) && isAtEnd
  }

  /// The relay that goes on with `source`, with everything that its first record needs.
  private func prepare(for source: SessionSource) throws(RelayError) -> Relay {
    var options = use.options
    options.isAdaptive = use.configuration.isAdaptive
    let relay =
      self.relay
      ?? Relay(
        mappings: use.configuration.outboxes, database: source.database, store: use.store, metrics: metrics,
        stop: stop, log: log, options: options)
    self.relay = relay
    // Records of a history that has ended must not be sent any longer.
    if source.isOfOtherHistory { relay.dropSink() }
    if let start = source.start { relay.reset(to: start) } else { relay.resume() }
    use.examine(relay)
    if !relay.hasSink {
      relay.use(try use.makeSink())
      sinkBackOff.succeeded()
    }
    return relay
  }

  private func noteStream() {
    metrics.role.store(RelayMetrics.Role.active.rawValue, ordering: .relaxed)
    metrics.postgresConnected.store(true, ordering: .relaxed)
    metrics.fault = nil
    if hasLostSource { metrics.sourceReconnects.wrappingAdd(1, ordering: .relaxed) }
    hasLostSource = false
    hasStreamed = true
    isStandby = false
    sourceBackOff.succeeded()
  }

  /// Drains, stores the checkpoint and confirms it, as far as the time allows. True if nothing is left in flight.
  private func finish(_ source: (any ChangeSource)?) -> Bool {
    isFinished = true
    metrics.role.store(RelayMetrics.Role.stopping.rawValue, ordering: .relaxed)
    guard let relay else { return true }
    let start = min(MonotonicTime.now(), stop.requestTime)
    let deadline = start.advanced(milliseconds: use.configuration.relay.drainTimeout)
    let isDrained = relay.finish(source, deadline: deadline)
    use.finished(relay, isDrained: isDrained, deadline: deadline)
    return isDrained
  }

  // MARK: Reactions

  /// Does what the table of the use says, and waits. The error itself where it ends the session.
  private func react(to error: RelayError) -> RelayError? {
    metrics.fault = error
    switch use.reactions.reaction(to: error, hasStreamed: hasStreamed) {
    case .reconnectSource:
      if let end = use.sourceLost(error, relay) { return halt(end) }
      reconnect(error)
    case .standBy:
      if let end = use.sourceLost(error, relay) { return halt(end) }
      standBy(error)
    case .rebuildSink:
      dropSink(error)
      if !error.isRemedied { wait(milliseconds: sinkBackOff.delay()) }
    case .halt, .applyPolicy: return halt(error)
    }
    // Positions that mean nothing to the next source: it must not begin while something of this one is in flight.
    if !use.options.hasPositions {
      while let relay, relay.hasSink, relay.outstanding > 0, !stop.isRequested { wait(milliseconds: 20) }
    }
    return nil
  }

  private func reconnect(_ error: RelayError) {
    metrics.role.store(RelayMetrics.Role.starting.rawValue, ordering: .relaxed)
    hasLostSource = hasStreamed
    log.error("no stream from Postgres; reconnecting", error, level: .warning)
    wait(milliseconds: sourceBackOff.delay())
  }

  private func standBy(_ error: RelayError) {
    metrics.role.store(RelayMetrics.Role.standby.rawValue, ordering: .relaxed)
    if !isStandby {
      isStandby = true
      log.notice(
        "standby: another process streams from the slot; waiting until it ends",
        ("slot", use.configuration.postgres.slot), ("reason", error.message))
    }
    // Evenly: whoever waits longest must not come last.
    wait(milliseconds: Int.random(in: 700...1300))
  }

  private func dropSink(_ error: RelayError) {
    metrics.producerRebuilds.wrappingAdd(1, ordering: .relaxed)
    log.error("rebuilding the producer; unacknowledged events are sent again", error, level: .warning)
    relay?.dropSink()
  }

  private func halt(_ error: RelayError) -> RelayError {
    let isOfRow = isFinished
    if !isFinished { _ = finish(nil) }
    metrics.role.store(RelayMetrics.Role.halted.rawValue, ordering: .relaxed)
    let explained = use.explained(error, isOfRow: isOfRow)
    metrics.fault = explained
    return explained
  }

  /// Waits, and handles deliveries meanwhile.
  private func wait(milliseconds: Int) {
    let deadline = MonotonicTime.now().advanced(milliseconds: milliseconds)
    if let relay, relay.hasSink {
      do throws(RelayError) {
        return try relay.idle(until: deadline)
      } catch {
        dropSink(error)
      }
    }
    stop.wait(milliseconds: MonotonicTime.now().milliseconds(until: deadline, limit: milliseconds))
  }
}
