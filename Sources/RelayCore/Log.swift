// Owns: the form of a log line, its level, and the limit on repeats. Lines go to standard error.
// Must not know: payloads, keys or secrets. Nobody may pass it any.
import Glibc
import Synchronization

/// The log of the process. A line costs a lock and a `write(2)`; nothing is logged per row. Nobody waits for the reader
/// of standard error: what is not taken at once is dropped, counted, and told of when lines are taken again.
public final class Log: Sendable {
  public enum Level: Int, Comparable, CaseIterable, Sendable {
    case debug = 0, info, notice, warning, error

    public var name: String { "\(self)" }
    public init?(name: String) {
      guard let level = Level.allCases.first(where: { $0.name == name }) else { return nil }
      self = level
    }
    public static func < (left: Level, right: Level) -> Bool { left.rawValue < right.rawValue }
  }

  public enum Format: String, CaseIterable, Sendable { case text, logfmt, json }

  public typealias Field = (name: String, value: String)

  private struct Repeat {
    var windowStart: MonotonicTime
    var printed: Int
    var suppressed: Int
  }

  private struct Pending {
    /// Of a line that was taken in part.
    var rest: [UInt8] = []
    /// Lines that were dropped and not told of yet.
    var dropped: UInt64 = 0
  }

  public let level: Level
  public let format: Format
  private let output: NonBlockingOutput
  private let pending = Mutex(Pending())
  private let metrics: RelayMetrics?
  private let repeats = Mutex<[String: Repeat]>([:])

  /// Of lines with the same level and message, this many are printed in `repeatWindow` milliseconds.
  static let repeatLimit = 5
  static let repeatWindow = 10_000

  /// - Parameter metrics: where dropped lines are counted.
  public init(
    level: Level = .info, format: Format = .text, descriptor: Int32 = 2, metrics: RelayMetrics? = nil
  ) {
    self.level = level
    self.format = format
    self.metrics = metrics
    output = NonBlockingOutput(descriptor)
  }

  public func debug(_ message: String, _ fields: Field...) { write(.debug, message, fields) }
  public func info(_ message: String, _ fields: Field...) { write(.info, message, fields) }
  public func notice(_ message: String, _ fields: Field...) { write(.notice, message, fields) }
  public func warning(_ message: String, _ fields: Field...) { write(.warning, message, fields) }
  public func error(_ message: String, _ fields: Field...) { write(.error, message, fields) }

  /// An error with its kind, code and remedy as fields.
  public func error(_ message: String, _ error: RelayError, level: Level = .error) {
    var fields: [Field] = [("reason", error.message), ("kind", error.kind.rawValue)]
    if let code = error.code { fields.append(("code", code)) }
    if let remedy = error.remedy { fields.append(("remedy", remedy)) }
    write(level, message, fields)
  }

  /// `message` is a fixed text; what changes stands in `fields`, so that repeats are recognised.
  /// - Parameter isRepeat: false for a line that the caller writes once for each of what it is about.
  public func write(_ level: Level, _ message: String, _ fields: [Field], isRepeat: Bool = true) {
    guard level >= self.level else { return }
    var fields = fields
    switch isRepeat ? admit(level, message) : 0 {
    case nil: return
    case .some(let suppressed) where suppressed > 0: fields.append(("suppressed", String(suppressed)))
    default: break
    }
    let line = line(level, message, fields)
    let isWritten = pending.withLock { pending in
      if deliver(line, &pending) { return true }
      pending.dropped += 1
      return false
    }
    if !isWritten { metrics?.logLinesDropped.wrappingAdd(1, ordering: .relaxed) }
  }

  private func line(_ level: Level, _ message: String, _ fields: [Field]) -> String {
    LogLine.render(time: postgresNow(), level: level, message: message, fields: fields, format: format) + "\n"
  }

  /// False: the line must be dropped. What is left of the one before comes first, then how many were dropped.
  private func deliver(_ line: String, _ pending: inout Pending) -> Bool {
    guard put([], &pending) else { return false }
    if pending.dropped > 0 {
      let report = self.line(
        .warning, "log lines were dropped: nobody was reading standard error",
        [("lines", String(pending.dropped))])
      guard put(Array(report.utf8), &pending) else { return false }
      pending.dropped = 0
    }
    return pending.rest.isEmpty && put(Array(line.utf8), &pending)
  }

  /// Writes the rest of the line before, or `bytes` where there is none. True: nothing of the former is left, and of the
  /// latter something is written.
  private func put(_ bytes: [UInt8], _ pending: inout Pending) -> Bool {
    let isRest = bytes.isEmpty
    let bytes = isRest ? pending.rest : bytes
    if bytes.isEmpty { return true }
    let count = bytes.withUnsafeBytes { output.write($0) }
    if count < 0 {
      // A log that cannot be written must not stop the relay.
      pending.rest = []
      return false
    }
    if isRest || count > 0 { pending.rest = Array(bytes[count...]) }
    return isRest ? pending.rest.isEmpty : count > 0
  }

  /// Nil: the line is one repeat too many. Otherwise how many were left out before it.
  private func admit(_ level: Level, _ message: String) -> Int? {
    let now = MonotonicTime.now()
    return repeats.withLock { repeats in
      let key = "\(level.rawValue)\(message)"
      guard var entry = repeats[key], now < entry.windowStart.advanced(milliseconds: Self.repeatWindow)
      else {
        let suppressed = repeats[key]?.suppressed ?? 0
        if repeats.count > 1000 { repeats.removeAll() }
        repeats[key] = Repeat(windowStart: now, printed: 1, suppressed: 0)
        return suppressed
      }
      defer { repeats[key] = entry }
      if entry.printed < Self.repeatLimit {
        entry.printed += 1
        return 0
      }
      entry.suppressed += 1
      return nil
    }
  }
}

/// The three forms of a line.
enum LogLine {
  static func render(
    time: PostgresMicroseconds, level: Log.Level, message: String, fields: [Log.Field], format: Log.Format
  ) -> String {
    let stamp = RFC3339.string(microseconds: time / 1000 * 1000, digits: 3)
    switch format {
    case .text:
      let name = level.name
      let padding = String(repeating: " ", count: 7 - name.utf8.count)
      return fields.reduce("\(stamp) \(name)\(padding) \(plain(message))") {
        $0 + " \($1.name)=\(quotedIfNeeded($1.value))"
      }
    case .logfmt:
      return fields.reduce("ts=\(stamp) level=\(level.name) msg=\(quotedIfNeeded(message))") {
        $0 + " \($1.name)=\(quotedIfNeeded($1.value))"
      }
    case .json:
      let head = "{\"ts\":\"\(stamp)\",\"level\":\"\(level.name)\",\"msg\":\(PrintableText.quoted(message))"
      return fields.reduce(head) {
        $0 + ",\(PrintableText.quoted($1.name)):\(PrintableText.quoted($1.value))"
      } + "}"
    }
  }

  private static func plain(_ text: String) -> String {
    text.unicodeScalars.contains(where: PrintableText.isControl) ? PrintableText.quoted(text) : text
  }

  private static func quotedIfNeeded(_ text: String) -> String {
    let bare =
      !text.isEmpty
      && text.unicodeScalars.allSatisfy {
        $0 != " " && $0 != "\"" && $0 != "=" && $0 != "\\" && !PrintableText.isControl($0)
      }
    return bare ? text : PrintableText.quoted(text)
  }
}
