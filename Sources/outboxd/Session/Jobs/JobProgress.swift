// Owns: how far a job is, as numbers and as a line.
// Must not know: where it is shown.
import RelayCore

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
      text = "\(verb) \(percent)  \(events)  waiting: \(PrintableText.escapingControls(hold))"
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
