// Owns: what an operator says of the log.
// Must not know: where lines go.
import RelayCore

struct LogSettings: Equatable, Sendable {
  var level = Log.Level.info
  var format = Log.Format.text

  func makeLog(metrics: RelayMetrics? = nil) -> Log { Log(level: level, format: format, metrics: metrics) }
}
