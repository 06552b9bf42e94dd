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

  enum Opening {
    /// Refused where there is a file.
    case create
    /// The file of an interrupted job. Its last line is cut off where a crash left it unfinished.
    case append
    /// As `append`, for a job that may not have come to write anything.
    case appendOrCreate

    fileprivate var flags: Int32 {
      switch self {
      case .create: O_CREAT | O_EXCL
      case .append: 0
      case .appendOrCreate: O_CREAT
      }
    }
  }

  /// A file.
  /// - Throws: `failed` with the file's name and the system's reason.
  init(path: String, _ opening: Opening, metrics: RelayMetrics) throws(RelayError) {
    settled = try SettledTags()
    self.metrics = metrics
    name = path
    isRegular = true
    file = open(path, O_RDWR | O_CLOEXEC | opening.flags, 0o644)
    guard file >= 0 else { throw Self.openFailure(path, opening) }
    output = NonBlockingOutput(file)
    if opening != .create { try cutUnfinishedLine() }
  }

  /// Standard output.
  init(metrics: RelayMetrics) throws(RelayError) {
    settled = try SettledTags()
    self.metrics = metrics
    name = "standard output"
    file = STDOUT_FILENO
    output = NonBlockingOutput(STDOUT_FILENO)
    var status = stat()
    isRegular = fstat(STDOUT_FILENO, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
  }

  deinit {
    metrics.topics = topics
    if file > STDERR_FILENO { close(file) }
  }

  var descriptor: Int32 { settled.descriptor }
  var retryTime: MonotonicTime { .never }

  func send(_ record: Record, tag: UInt64) throws(RelayError) -> SendOutcome {
    if let failure { throw failure }
    if buffer.count - written >= Self.bufferLimit { return .full }
    buffer.append(contentsOf: lines.line(of: record))
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
    failure = Self.failure("cannot be brought to the disk", name, errno)
    return false
  }

  // MARK: Writing

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

  private func cutUnfinishedLine() throws(RelayError) {
    let size = lseek(file, 0, SEEK_END)
    var end = size
    var byte: UInt8 = 0
    // SAFETY: pread(2) writes one byte at most.
    while end > 0, pread(file, &byte, 1, end - 1) == 1, byte != 0x0A { end -= 1 }
    guard end >= 0, end == size || ftruncate(file, end) == 0, lseek(file, end, SEEK_SET) == end else {
      let code = errno
      close(file)
      throw Self.failure("cannot be appended to", name, code)
    }
  }

  private static func openFailure(_ path: String, _ opening: Opening) -> RelayError {
    let code = errno
    switch code {
    case EEXIST:
      return RelayError(
        .usage, "the file \(path) exists", remedy: "Name another file, or remove it: nothing is overwritten.")
    case ENOENT where opening == .create:
      return RelayError(.failed, "\(path) cannot be created: there is no such folder")
    case ENOENT:
      return RelayError(
        .failed, "there is no file \(path), or no folder for it",
        remedy: "A job that goes on needs what it has written: bring the file back, or start the job anew.")
    default:
      return failure("cannot be opened", path, code)
    }
  }

  private static func failure(_ what: String, _ name: String, _ code: Int32) -> RelayError {
    RelayError(.failed, "\(name) \(what): \(String(cString: strerror(code)))")
  }
}
