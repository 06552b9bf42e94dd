// Owns: the process of `outboxd run`: threads, signals, exit code.
// Must not know: how a row is relayed, how a failure is reacted to.
import Glibc
import KafkaSink
import PostgresSource
import RelayCore
import Synchronization

/// Main thread: signals. Relay's thread: everything on the way of a row. Keeper's thread: the journal and the
/// watch on the slot. Admin server's thread: libmicrohttpd's own.
enum Daemon {
  private final class Outcome: Sendable {
    let failure = Mutex<RelayError?>(nil)
  }

  /// Runs until a signal or a failure ends it.
  /// - Returns: the exit code.
  static func run(_ configuration: Configuration) throws(RelayError) -> Int32 {
    let signals = try SignalWatch()
    let metrics = RelayMetrics()
    let log = configuration.log.makeLog(metrics: metrics)
    let stop = StopSignal { metrics.turned() }
    let finished = StopSignal()
    let outcome = Outcome()
    metrics.turned()
    log.info(
      "starting", ("version", Versions.outboxd), ("slot", configuration.postgres.slot),
      ("outboxes", configuration.outboxes.map(\.qualifiedName).joined(separator: ",")))
    for warning in KafkaTransport(configuration.kafka).warnings {
      log.warning(warning)
    }
    let admin = try startAdmin(configuration, metrics: metrics, log: log)
    let keeper = JournalKeeper(
      settings: configuration.postgres, mappings: configuration.outboxes,
      outboxes: ConfigurationPrinter.yaml(configuration.outboxes), log: log, metrics: metrics)
    try keeper.start()
    let relayThread = try RelayThread(name: "relay") {
      let use = DaemonUse(
        configuration: configuration, keeper: keeper, metrics: metrics, stop: stop, log: log)
      let end = Session(use, metrics: metrics, stop: stop, log: log).run()
      if case .failed(let failure) = end { outcome.failure.withLock { $0 = failure } }
      finished.request()
    }
    signals.serve(
      stop: stop, finished: finished, log: log,
      lastWords:
        "ended immediately by a second signal; unacknowledged events are sent again at the next start")
    relayThread.join()
    keeper.stop()
    admin?.stop()
    if let failure = outcome.failure.withLock({ $0 }) {
      log.error("halted", failure)
      return failure.kind.exitCode
    }
    return 0
  }

  private static func startAdmin(
    _ configuration: Configuration, metrics: RelayMetrics, log: Log
  ) throws(RelayError) -> AdminServer? {
    guard let settings = configuration.admin else { return nil }
    let postgres = configuration.postgres
    let info = AdminInfo(
      slot: postgres.slot, database: try conninfoDatabase(postgres.conninfo))
    return try AdminServer(
      settings: settings, hosts: configuration.adminHosts, metrics: metrics, info: info, log: log)
  }
}
