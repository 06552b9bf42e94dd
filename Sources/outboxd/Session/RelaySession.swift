// Owns: the life of the relay across connections: open, run, react to what failed, wait, again.
// Must not know: protocol bytes, the way of a row.
import Glibc
import KafkaSink
import PostgresSource
import RelayCore
import Synchronization

/// Confined to the relay's thread, which it is made on.
final class RelaySession {
  private let configuration: Configuration
  private let metrics: RelayMetrics
  private let stop: StopSignal
  private let log: Log
  private let keeper: JournalKeeper

  private var relay: Relay?
  private var originCheck: OriginCheck?
  private var systemIdentifier: UInt64 = 0
  private var timeline: UInt32 = 0
  private var sourceBackOff = BackOff()
  private var sinkBackOff = BackOff(first: 500, lasting: 120_000)
  private let batchLimit = BatchLimit()
  private var isStandby = false
  /// What this process knows of its place is not true any more.
  private var hasForgotten = false
  private var hasStreamed = false
  /// The stream was lost on the side of Postgres, and there is no other yet.
  private var hasLostStream = false

  init(
    configuration: Configuration, metrics: RelayMetrics, stop: StopSignal, log: Log, keeper: JournalKeeper
  ) {
    self.configuration = configuration
    self.metrics = metrics
    self.stop = stop
    self.log = log
    self.keeper = keeper
  }

  /// Relays until a stop is requested. The failure that ends the relay, nil for a stop.
  func run() -> RelayError? {
    while !stop.isRequested {
      do throws(RelayError) {
        try stream()
        return nil
      } catch {
        if stop.isRequested {
          if error.kind != .interrupted { log.error("failed while stopping", error, level: .warning) }
          break
        }
        if let fatal = react(to: error) { return fatal }
      }
    }
    finish(nil)
    return nil
  }

  /// One connection to Postgres, from its opening to its end. Returns in good order after a stop.
  private func stream() throws(RelayError) {
    var resume: Checkpoint?
    if let relay, !hasForgotten {
      resume = Checkpoint(lsn: relay.checkpoint, systemIdentifier: systemIdentifier, timeline: timeline)
    }
    let source = try PostgresSource.open(
      settings: configuration.postgres, mappings: configuration.outboxes, keeper: keeper, resume: resume,
      stop: stop, log: log)
    let relay = try prepare(for: source)
    metrics.role.store(RelayMetrics.Role.active.rawValue, ordering: .relaxed)
    metrics.postgresConnected.store(true, ordering: .relaxed)
    metrics.fault = nil
    isStandby = false
    hasForgotten = false
    if hasLostStream { metrics.sourceReconnects.wrappingAdd(1, ordering: .relaxed) }
    hasLostStream = false
    hasStreamed = true
    sourceBackOff.succeeded()
    defer { metrics.postgresConnected.store(false, ordering: .relaxed) }
    do throws(RelayError) {
      try relay.run(source, drainMilliseconds: configuration.relay.drainTimeout)
    } catch  where error.kind.reaction == .applyPolicy || error.kind == .tableUnsuitable {
      // The stream itself is sound: what is acknowledged before the row is confirmed.
      finish(source)
      var error = error
      if error.kind == .tableUnsuitable {
        error.remedy = (error.remedy.map { $0 + " " } ?? "") + PostgresSource.shapeRemedy
      }
      throw error
    }
    finish(source)
  }

  /// The relay that goes on with `source`: the same as before where the source continues where it was.
  private func prepare(for source: ReplicationStream) throws(RelayError) -> Relay {
    let relay =
      self.relay
      ?? Relay(
        mappings: configuration.outboxes, database: source.database, store: keeper, metrics: metrics,
        stop: stop, log: log)
    let continues =
      self.relay != nil && source.startLSN <= relay.checkpoint
      && source.systemIdentifier == systemIdentifier && source.timeline == timeline
    if !continues {
      // Records of a history that is no more must not be sent any longer.
      if self.relay != nil, source.systemIdentifier != systemIdentifier || source.timeline != timeline {
        relay.dropSink()
      }
      relay.reset(to: source.startLSN)
    }
    self.relay = relay
    systemIdentifier = source.systemIdentifier
    timeline = source.timeline
    let isNewSink = !relay.hasSink
    if isNewSink {
      relay.use(
        try KafkaSink(settings: configuration.kafka, metrics: metrics, log: log, batchLimit: batchLimit))
      sinkBackOff.succeeded()
    }
    if configuration.relay.checkOrigin, originCheck?.isDone != true {
      var session = configuration
      session.postgres.server = source.server
      let check = OriginWatch.check(
        session, walEnd: source.walEnd, metrics: metrics, stop: stop, log: log)
      originCheck = check
      relay.examine(with: check)
    }
    if !continues {
      // A commit at the end of the WAL had not been written yet.
      recognize(in: relay, source, through: LSN(max(1, source.walEnd.rawValue) - 1), former: source.former)
    } else if isNewSink {
      recognize(in: relay, source, through: relay.resentThrough)
    }
    return relay
  }

  /// What this process, or the one before it, may have sent after the checkpoint is not sent again where Kafka has it.
  private func recognize(
    in relay: Relay, _ source: ReplicationStream, through: LSN, former: FormerRun? = nil
  ) {
    guard through >= source.startLSN else { return }
    let isSettled = former?.settledAt == source.startLSN
    guard configuration.relay.skipDelivered else {
      if isSettled { return }
      let unexamined = UnexaminedEvents { [log] in
        log.notice(
          "what Kafka has already is not looked at: events since the checkpoint may be sent twice",
          ("reason", "relay.skip_delivered is false"), ("from", source.startLSN.description),
          ("through", through.description))
      }
      return relay.recognize(unexamined, through: through)
    }
    let isChanged =
      former?.outboxes.map { $0 != ConfigurationPrinter.yaml(configuration.outboxes) } ?? false
    let tails = PartitionTails(
      settings: configuration.kafka, after: source.startLSN, through: through, isSettled: isSettled,
      doubt: isChanged
        ? "the process before this one had other outboxes configured: it may have sent the events to other topics, or "
          + "with other bytes" : nil,
      patience: source.reportInterval, metrics: metrics, log: log)
    relay.recognize(tails, through: through)
  }

  /// Drains, stores the checkpoint and confirms it, as far as the time allows.
  private func finish(_ source: ReplicationStream?) {
    metrics.role.store(RelayMetrics.Role.stopping.rawValue, ordering: .relaxed)
    guard let relay else { return }
    let start = min(MonotonicTime.now(), stop.requestTime)
    let deadline = start.advanced(milliseconds: configuration.relay.drainTimeout)
    if relay.finish(source, deadline: deadline) {
      if relay.isSettled { keeper.settle(at: relay.checkpoint, deadline: deadline) }
      log.info("stopped", ("checkpoint", relay.checkpoint.description))
    } else {
      log.warning(
        "stopped before Kafka had acknowledged everything: it is sent again at the next start",
        ("unacknowledged", String(relay.outstanding)), ("checkpoint", relay.checkpoint.description))
    }
  }

  // MARK: Reactions

  /// Does what `error.kind.reaction` says, and waits. The error itself where it ends the relay.
  private func react(to error: RelayError) -> RelayError? {
    metrics.fault = error
    switch error.kind.reaction {
    case .reconnectSource: reconnect(error)
    case .standBy: standBy(error)
    case .rebuildSink: rebuildSink(error)
    case .halt, .applyPolicy:
      if metrics.role.load(ordering: .relaxed) != RelayMetrics.Role.stopping.rawValue { finish(nil) }
      metrics.role.store(RelayMetrics.Role.halted.rawValue, ordering: .relaxed)
      return configuration.destined(error).withLastRemedy
    }
    return nil
  }

  private func reconnect(_ error: RelayError) {
    metrics.role.store(RelayMetrics.Role.starting.rawValue, ordering: .relaxed)
    hasLostStream = hasStreamed
    log.error("no stream from Postgres; reconnecting", error, level: .warning)
    wait(milliseconds: sourceBackOff.delay())
  }

  private func standBy(_ error: RelayError) {
    metrics.role.store(RelayMetrics.Role.standby.rawValue, ordering: .relaxed)
    if !isStandby {
      isStandby = true
      // Another process moves the slot meanwhile, and without a journal only the slot can tell how far.
      if relay != nil, !keeper.keepsJournal { hasForgotten = true }
      log.notice(
        "standby: another process streams from the slot; waiting for it to end",
        ("slot", configuration.postgres.slot), ("reason", error.message))
    }
    // Evenly: whoever waits longest must not come last.
    wait(milliseconds: Int.random(in: 700...1300))
  }

  private func rebuildSink(_ error: RelayError) {
    metrics.producerRebuilds.wrappingAdd(1, ordering: .relaxed)
    log.error("the producer is built anew; unacknowledged events are sent again", error, level: .warning)
    relay?.dropSink()
    if !error.isRemedied { wait(milliseconds: sinkBackOff.delay()) }
  }

  /// Waits, and looks after deliveries meanwhile.
  private func wait(milliseconds: Int) {
    let deadline = MonotonicTime.now().advanced(milliseconds: milliseconds)
    if let relay, relay.hasSink {
      do throws(RelayError) {
        try relay.idle(until: deadline)
        return
      } catch {
        metrics.producerRebuilds.wrappingAdd(1, ordering: .relaxed)
        log.error("the producer is built anew; unacknowledged events are sent again", error, level: .warning)
        relay.dropSink()
      }
    }
    stop.wait(milliseconds: MonotonicTime.now().milliseconds(until: deadline, limit: milliseconds))
  }
}
