// Owns: what is seen of a job while it runs: a redrawn line on a terminal, a log line now and then otherwise.
// Must not know: how the job is done.
import Glibc
import RelayCore
import Synchronization

/// How far a job is, as numbers.
struct JobProgress: Equatable {
  var done: UInt64 = 0
  /// 0: not known.
  var total: UInt64 = 0
  var read: UInt64 = 0
  var sent: UInt64 = 0
  /// Records a second, lately.
  var rate: Double = 0
  var milliseconds: UInt64 = 0
  /// What records wait for.
  var hold: String?

  /// From 0 to 1; nil where the end is not known.
  var fraction: Double? { total == 0 ? nil : min(1, Double(done) / Double(total)) }

  /// By the pace from the beginning on. Nil where nothing can be said yet.
  var secondsLeft: Int? {
    guard let fraction, fraction > 0.001, milliseconds >= 1000 else { return nil }
    return Int(Double(milliseconds) / 1000 * (1 - fraction) / fraction)
  }

  private var percent: String { fraction.map { "\(Int($0 * 100))%" } ?? "?" }

  /// `replaying [#####-----] 50%  1,200 sent, 2,000 read  400/s  0:03 left`, or `replaying 50%  1,200 sent  waits: …`,
  /// at most `width` characters.
  func line(verb: String, width: Int) -> String {
    let cells = 20
    let filled = Int((fraction ?? 0) * Double(cells))
    let bar = String(repeating: "#", count: filled) + String(repeating: "-", count: cells - filled)
    let events = "\(JobText.grouped(sent)) sent" + (read > sent ? ", \(JobText.grouped(read)) read" : "")
    var text: String
    if let hold {
      text = "\(verb) \(percent)  \(events)  waits: \(PrintableText.escapingControls(hold))"
    } else {
      text = "\(verb) [\(bar)] \(percent)  \(events)  \(JobText.grouped(UInt64(rate)))/s"
      if let secondsLeft { text += "  \(JobText.duration(seconds: secondsLeft)) left" }
    }
    return text.count > width ? String(text.prefix(max(0, width - 1))) + "…" : text
  }

  var fields: [Log.Field] {
    var fields: [Log.Field] = [
      ("done", percent), ("read", String(read)), ("sent", String(sent)), ("rate", "\(Int(rate))/s"),
    ]
    if let hold { fields.append(("waits_for", hold)) }
    if let secondsLeft { fields.append(("left", JobText.duration(seconds: secondsLeft))) }
    return fields
  }
}

/// Draws it. Confined to the main thread.
struct JobDisplay: ~Copyable {
  /// Milliseconds between two looks.
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
      milliseconds: (now.nanoseconds - start.nanoseconds) / 1_000_000, hold: metrics.hold)
    let first = samples.first.map { ($0.time, $0.sent) } ?? (now, sent)
    let nanoseconds = now.nanoseconds - first.0.nanoseconds
    if nanoseconds > 0 { progress.rate = Double(sent &- first.1) * 1e9 / Double(nanoseconds) }
    return progress
  }
}

/// Numbers for people.
enum JobText {
  /// `1,234,567`
  static func grouped(_ number: UInt64) -> String {
    let digits = Array(String(number))
    return digits.indices.map { ($0 > 0 && (digits.count - $0) % 3 == 0 ? "," : "") + String(digits[$0]) }
      .joined()
  }

  /// `0:07`, `12:03`, `3:00:07`
  static func duration(seconds: Int) -> String {
    func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60)
    return hours > 0
      ? "\(hours):\(two(minutes)):\(two(seconds % 60))" : "\(minutes):\(two(seconds % 60))"
  }
}
