// Owns: the check of a process whether it runs on a copy of its server, as both sides together make it.
// Must not know: how either side is read.
import KafkaSink
import PostgresSource
import RelayCore

enum OriginWatch {
  /// - Parameter walEnd: an end of the server's WAL: events up to there are of no interest.
  static func check(
    _ configuration: Configuration, walEnd: LSN, metrics: RelayMetrics, stop: StopSignal, log: Log
  ) -> OriginCheck {
    OriginCheck(settings: configuration.kafka, after: walEnd, metrics: metrics, log: log) {
      (events) throws(RelayError) in
      let origin = try PostgresSource.serverOrigin(settings: configuration.postgres, stop: stop)
      let strange = events.first { event in
        origin.isStrange(event.sequence.commitLSN, timestamp: time(event.timestamp))
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
