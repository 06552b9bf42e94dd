// Owns: records as lines of JSON in a file or on standard output.
// Must not know: where records come from, the form of a line.
import CSystem
import Glibc
import RelayCore

/// A record is settled once it is written. `synchronize` makes what is written outlive a crash of the machine.
/// Confined to the relay's thread.
final class JSONLinesSink: RecordSink {
  private let file: Int32
  private let output: NonBlockingOutput
  private let name: String
  private let isRegular: Bool
  private let isTerminal: Bool
  private let metrics: RelayMetrics
  private var lines = RecordLine()
  private var settled: SettledTags
  /// Lines that are not written yet, from `written` on.
  private var buffer: [UInt8] = []
  private var written = 0
  /// The tags of the lines in `buffer`.
  private var waiting: [(tag: UInt64, count: Int)] = []
  private var topics: [String: UInt64] = [:]
  private var failure: RelayError?

  private static let writeSize = 256 * 1024
  /// More than this waits for no slow reader.
  private static let bufferLimit = 1024 * 1024

  /// A file of a job.
  /// - Throws: as `JobFile.open`.
  convenience init(path: String, _ opening: JobFile.Opening, metrics: RelayMetrics) throws(RelayError) {
    try self.init(descriptor: try JobFile.open(path, opening), name: path, metrics: metrics)
  }

  /// Standard output.
  convenience init(metrics: RelayMetrics) throws(RelayError) {
    try self.init(descriptor: STDOUT_FILENO, name: "standard output", metrics: metrics)
  }

  /// - Parameter descriptor: closed at the end, unless it is a standard stream.
  init(descriptor: Int32, name: String, metrics: RelayMetrics) throws(RelayError) {
    settled = try SettledTags()
    self.metrics = metrics
    self.name = name
    file = descriptor
    output = NonBlockingOutput(descriptor)
    isTerminal = isatty(descriptor) == 1
    var status = stat()
    isRegular = fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
  }

  deinit {
    metrics.topics = topics
    if file > STDERR_FILENO { close(file) }
  }

  var descriptor: Int32 { settled.descriptor }

  func send(_ record: Record, tag: UInt64) throws(RelayError) -> SendOutcome {
    if let failure { throw failure }
    if buffer.count - written >= Self.bufferLimit { return .full }
    append(lines.line(of: record))
    if let last = waiting.indices.last, waiting[last].tag == tag {
      waiting[last].count += 1
    } else {
      waiting.append((tag, 1))
    }
    topics[String(decoding: record.topic, as: UTF8.self), default: 0] += 1
    if buffer.count - written >= Self.writeSize { try flush(milliseconds: 0) } else { settled.wake() }
    return .accepted
  }

  func drain(_ settle: (Delivery) -> Void) throws(RelayError) {
    if let failure { throw failure }
    if !buffer.isEmpty { try flush(milliseconds: 20) }
    settled.drain(settle)
    // What a slow reader has not taken is tried again at once, and waited for in `flush`.
    if !buffer.isEmpty { settled.wake() }
    metrics.topics = topics
  }

  func abandon() {
    settled.forget()
    waiting = []
    buffer = []
    written = 0
  }

  /// Everything that is settled is on the disk. False where the system cannot say so: the next `drain` throws.
  func synchronize() -> Bool {
    guard isRegular, fdatasync(file) != 0 else { return true }
    failure = Self.failure("cannot be flushed to disk", name, errno)
    return false
  }

  // MARK: Writing

  /// In JSON an escaped character means the same, and steers no terminal.
  private func append(_ line: LentBytes) {
    guard isTerminal else { return buffer.append(contentsOf: line) }
    let text = PrintableText.escapingControls(String(decoding: line, as: UTF8.self), keepsLines: true)
    buffer.append(contentsOf: text.utf8)
  }

  /// Writes what waits, as far as the reader takes it within `milliseconds`.
  private func flush(milliseconds: Int32) throws(RelayError) {
    while written < buffer.count {
      if !isRegular, !output.wait(milliseconds: milliseconds) { return }
      let count = buffer.withUnsafeBytes { bytes in
        output.write(UnsafeRawBufferPointer(rebasing: bytes[written...]))
      }
      if count > 0 {
        written += count
      } else if count == 0 {
        return
      } else {
        let failure = Self.failure("cannot be written", name, errno)
        self.failure = failure
        throw failure
      }
    }
    buffer.removeAll(keepingCapacity: true)
    written = 0
    for run in waiting { settled.add(run.tag, count: run.count) }
    waiting.removeAll(keepingCapacity: true)
  }

  private static func failure(_ what: String, _ name: String, _ code: Int32) -> RelayError {
    RelayError(.failed, "\(name) \(what): \(String(cString: strerror(code)))")
  }
}
