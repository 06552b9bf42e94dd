// Owns: what is seen of a job while it runs: a redrawn line on a terminal, a log line now and then otherwise.
// Must not know: how the job is done.
import Glibc
import RelayCore
import Synchronization

/// Draws it. Confined to the main thread.
struct JobDisplay: ~Copyable {
  /// Milliseconds between two readings.
  static let interval = 200
  private static let logInterval = 10_000

  private let verb: String
  private let metrics: RelayMetrics
  private let meter: JobMeter
  private let log: Log
  private let start: MonotonicTime
  private let isTerminal: Bool
  /// A terminal that is stopped (Ctrl-S) must not stop the thread that hears signals.
  private let output = NonBlockingOutput(STDERR_FILENO)
  private var logTime: MonotonicTime
  /// The last ten seconds: when, and how much had been sent.
  private var samples: [(time: MonotonicTime, sent: UInt64)] = []

  init(
    job: Job, metrics: RelayMetrics, meter: JobMeter, log: Log, start: MonotonicTime,
    environment: [String: String]
  ) {
    verb = job.verb
    self.metrics = metrics
    self.meter = meter
    self.log = log
    self.start = start
    isTerminal = isatty(STDERR_FILENO) == 1 && environment["TERM"] != "dumb"
    logTime = start.advanced(milliseconds: Self.logInterval)
  }

  mutating func show() {
    let now = MonotonicTime.now()
    if isTerminal {
      // The cursor stays at the line's beginning, so that a line of the log takes its place.
      draw("\r\(progress(now).line(verb: verb, width: 79))\u{1B}[K\r")
    } else if now >= logTime {
      logTime = now.advanced(milliseconds: Self.logInterval)
      log.write(.info, verb, progress(now).fields)
    } else {
      _ = progress(now)
    }
  }

  func clear() {
    if isTerminal { draw("\r\u{1B}[K") }
  }

  private func draw(_ text: String) {
    Array(text.utf8).withUnsafeBytes { _ = output.write($0) }
  }

  private mutating func progress(_ now: MonotonicTime) -> JobProgress {
    let sent = metrics.eventsDelivered.load(ordering: .relaxed)
    samples.append((now, sent))
    while samples.count > 1, samples[0].time.advanced(milliseconds: 10_000) < now { samples.removeFirst() }
    var progress = JobProgress(
      done: meter.done.load(ordering: .relaxed), total: meter.total.load(ordering: .relaxed),
      read: metrics.eventsReceived.load(ordering: .relaxed), sent: sent,
      milliseconds: (now.nanoseconds - start.nanoseconds) / 1_000_000, hold: metrics.waits.first)
    let first = samples.first.map { ($0.time, $0.sent) } ?? (now, sent)
    let nanoseconds = now.nanoseconds - first.0.nanoseconds
    if nanoseconds > 0 { progress.rate = Double(sent &- first.1) * 1e9 / Double(nanoseconds) }
    return progress
  }
}
