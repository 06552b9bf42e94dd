// Owns: the stream of a slot as a session's source: from where it resumes, and what may have been sent before.
// Must not know: when it is opened, how a failure is reacted to.
import KafkaSink
import PostgresSource
import RelayCore

/// What `outboxd run` is. Confined to the relay's thread.
final class DaemonUse: SessionUse {
  /// What is known of the newest stream. Not the stream itself: its connection must go before the next one comes.
  private struct Beginning {
    let start: LSN
    let walEnd: LSN
    let systemIdentifier: UInt64
    let timeline: UInt32
    let server: ServerIdentity
    let former: FormerRun?
    let reportInterval: Int
    /// The relay continues where it was.
    let continues: Bool
  }

  let configuration: Configuration
  let options = RelayOptions()
  let reactions = ReactionTable.daemon
  var store: any CheckpointStore { keeper.mailbox }
  var readingLimit: Int { configuration.relay.drainTimeout }

  private let metrics: RelayMetrics
  private let stop: StopSignal
  private let log: Log
  private let keeper: JournalKeeper
  private let origin: OriginWatch
  private let batchLimit = BatchLimit()
  private var beginning: Beginning?
  /// Why the previous process may have sent what Kafka does not hold. Nil: nothing speaks for it.
  private var doubt: String?
  /// What this process knows of its place is no longer true.
  private var hasForgotten = false

  init(
    configuration: Configuration, keeper: JournalKeeper, metrics: RelayMetrics, stop: StopSignal, log: Log
  ) {
    self.configuration = configuration
    self.keeper = keeper
    self.metrics = metrics
    self.stop = stop
    self.log = log
    origin = OriginWatch(configuration, metrics: metrics, stop: stop, log: log)
  }

  func open(after relay: Relay?) throws(RelayError) -> SessionSource {
    var resume: Checkpoint?
    if let relay, let beginning, !hasForgotten {
      resume = Checkpoint(
        lsn: relay.checkpoint, systemIdentifier: beginning.systemIdentifier, timeline: beginning.timeline)
    }
    let source = try PostgresSource.open(
      settings: configuration.postgres, mappings: configuration.outboxes, keeper: keeper, resume: resume,
      stop: stop, log: log)
    let isSameHistory =
      beginning.map { ($0.systemIdentifier, $0.timeline) == (source.systemIdentifier, source.timeline) }
      ?? true
    let continues = relay.map { isSameHistory && source.startLSN <= $0.checkpoint } ?? false
    beginning = Beginning(
      start: source.startLSN, walEnd: source.walEnd, systemIdentifier: source.systemIdentifier,
      timeline: source.timeline, server: source.server, former: source.former,
      reportInterval: source.reportInterval, continues: continues)
    if !continues { doubt = Self.doubt(source.former, configuration) }
    return SessionSource(
      changes: source, database: source.database, start: continues ? nil : source.startLSN,
      isOfOtherHistory: relay != nil && !isSameHistory)
  }

  func examine(_ relay: Relay) {
    guard let beginning else { return }
    if relay.hasSink { hasForgotten = false }
    origin.examine(relay, server: beginning.server, walEnd: beginning.walEnd)
    if !beginning.continues {
      // A commit at the end of the WAL had not been written yet.
      let through = LSN(max(1, beginning.walEnd.rawValue) - 1)
      recognize(in: relay, beginning, through: through, former: beginning.former)
    } else if !relay.hasSink {
      recognize(in: relay, beginning, through: relay.resentThrough)
    }
  }

  /// What this process, or the one before it, may have sent after the checkpoint is not sent again where Kafka has it.
  private func recognize(
    in relay: Relay, _ beginning: Beginning, through: LSN, former: FormerRun? = nil
  ) {
    guard through >= beginning.start else { return }
    let isSettled = former?.settledAt == beginning.start
    guard configuration.relay.skipDelivered else {
      if isSettled { return }
      let unexamined = UnexaminedEvents { [log] in
        log.notice(
          "what Kafka has already is not examined: events since the checkpoint may be sent twice",
          ("reason", "relay.skip_delivered is false"), ("from", beginning.start.description),
          ("through", through.description))
      }
      return relay.recognize(unexamined, through: through)
    }
    let tails = PartitionTails(
      settings: configuration.kafka, after: beginning.start, through: through, isSettled: isSettled,
      doubt: doubt, patience: beginning.reportInterval, metrics: metrics, log: log)
    relay.recognize(tails, through: through)
  }

  private static func doubt(_ former: FormerRun?, _ configuration: Configuration) -> String? {
    guard let outboxes = former?.outboxes, outboxes != ConfigurationPrinter.yaml(configuration.outboxes)
    else {
      return nil
    }
    return
      "the previous process had other outboxes configured: it may have sent the events to other topics, or "
      + "with other bytes"
  }

  func makeSink() throws(RelayError) -> any RecordSink {
    let sink = try KafkaSink(
      settings: configuration.kafka, metrics: metrics, log: log, batchLimit: batchLimit)
    hasForgotten = false
    return sink
  }

  func sourceLost(_ error: RelayError, _ relay: Relay?) -> RelayError? {
    // Another process moves the slot meanwhile, and without a journal only the slot can tell how far.
    if error.kind == .slotActive, relay != nil, !keeper.mailbox.keepsJournal { hasForgotten = true }
    return nil
  }

  func finished(_ relay: Relay, isDrained: Bool, deadline: MonotonicTime) {
    guard isDrained else {
      return log.warning(
        "stopped before Kafka had acknowledged everything: the next start sends the rest again",
        ("unacknowledged", String(relay.outstanding)), ("checkpoint", relay.checkpoint.description))
    }
    if relay.isSettled { keeper.mailbox.settle(at: relay.checkpoint, deadline: deadline) }
    log.info("stopped", ("checkpoint", relay.checkpoint.description))
  }

  func explained(_ error: RelayError, isOfRow: Bool) -> RelayError {
    var error = error
    if isOfRow, error.kind == .tableUnsuitable {
      error.remedy = (error.remedy.map { $0 + " " } ?? "") + PostgresSource.shapeRemedy
    }
    return configuration.destined(error).withLastRemedy
  }
}
