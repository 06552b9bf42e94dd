// Owns: the question before the first record: do the topics hold events of this source that the server cannot have
// written?
// Must not know: how either side is read.
import KafkaSink
import PostgresSource
import RelayCore

/// Asks once in a session, over all its connections. Confined to the relay's thread.
final class OriginWatch {
  private let configuration: Configuration
  private let metrics: RelayMetrics
  private let stop: StopSignal
  private let log: Log
  private var check: OriginCheck?

  init(_ configuration: Configuration, metrics: RelayMetrics, stop: StopSignal, log: Log) {
    self.configuration = configuration
    self.metrics = metrics
    self.stop = stop
    self.log = log
  }

  /// Has the relay ask before its first record, unless it has an answer already or `relay.check_origin` is false.
  /// - Parameters:
  ///   - server: where the source reads. Nil: wherever the configuration leads.
  ///   - walEnd: an end of the server's WAL: events up to there are of no interest.
  func examine(_ relay: Relay, server: ServerIdentity?, walEnd: LSN) {
    guard configuration.relay.checkOrigin, check?.isDone != true else { return }
    let check = makeCheck(server, walEnd: walEnd)
    self.check = check
    relay.examine(with: check)
  }

  private func makeCheck(_ server: ServerIdentity?, walEnd: LSN) -> OriginCheck {
    var settings = configuration.postgres
    settings.server = server
    return OriginCheck(settings: configuration.kafka, after: walEnd, metrics: metrics, log: log) {
      [settings, stop, log] (events) throws(RelayError) in
      let origin = try PostgresSource.serverOrigin(settings: settings, stop: stop)
      let strange = events.first { event in
        origin.isStrange(event.sequence.commitLSN, timestamp: Self.time(event.timestamp))
      }
      guard let strange else { return }
      let fault = origin.fault(source: strange.source, topic: strange.topic, strange.sequence)
      if origin.isKept { throw fault }
      log.error("this server may be a copy", fault, level: .warning)
    }
  }

  /// From milliseconds since 1970.
  private static func time(_ milliseconds: Int64) -> PostgresMicroseconds? {
    let (microseconds, overflow) = milliseconds.multipliedReportingOverflow(by: 1000)
    return milliseconds < 0 || overflow ? nil : microseconds - PostgresMicroseconds.unixEpochOffset
  }
}
