// Owns: the file that a job writes to: opened for a new job, and known again by the mark beside it when one goes on.
// Must not know: what is written, threads.
import CSystem
import Glibc
import RelayCore

/// How the file of a job is opened.
enum JobFile {
  enum Opening: Equatable, Sendable {
    /// Refused where there is a file. Nil: the job is not kept, and does not go on in it.
    case create(JobMark?)
    /// The file of an interrupted job.
    case append(JobMark?)
    /// As `append`, for a job that may not have come to write anything.
    case appendOrCreate(JobMark?)

    var mark: JobMark? {
      switch self {
      case .create(let mark), .append(let mark), .appendOrCreate(let mark): mark
      }
    }
  }

  /// - Returns: a descriptor for reading and writing, at the end of a file that only its owner reads.
  /// - Throws: `usage` where the file is not the job's; `failed` with the system's reason.
  static func open(_ path: String, _ opening: Opening) throws(RelayError) -> Int32 {
    if case .create = opening { return try create(path, opening.mark) }
    let descriptor = Glibc.open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)
    guard descriptor >= 0 else {
      let code = errno
      if code == ENOENT, case .appendOrCreate(let mark) = opening { return try create(path, mark) }
      throw failure(path, code)
    }
    do throws(RelayError) {
      let status = try requireOwn(path, descriptor)
      if case .appendOrCreate(let mark?) = opening, isUnmarked(path, status) {
        try mark.write(beside: path, status)
      } else if let mark = opening.mark {
        try require(mark, path, status)
      }
      try cutUnfinishedLine(path, descriptor)
    } catch {
      close(descriptor)
      throw error
    }
    return descriptor
  }

  private static func create(_ path: String, _ mark: JobMark?) throws(RelayError) -> Int32 {
    let descriptor = Glibc.open(path, O_RDWR | O_CLOEXEC | O_CREAT | O_EXCL, 0o600)
    guard descriptor >= 0 else { throw failure(path, errno) }
    guard let mark else { return descriptor }
    do throws(RelayError) {
      try mark.write(beside: path, try status(path, descriptor))
    } catch {
      close(descriptor)
      // It is empty, and of this instant.
      unlink(path)
      throw error
    }
    return descriptor
  }

  /// What a crash leaves between the making of the file and of its mark.
  private static func isUnmarked(_ path: String, _ status: stat) -> Bool {
    status.st_size == 0 && status.st_mode & 0o7777 == 0o600 && !JobMark.exists(beside: path)
  }

  /// Nobody else could write into the file.
  private static func requireOwn(_ path: String, _ descriptor: Int32) throws(RelayError) -> stat {
    let status = try status(path, descriptor)
    guard status.st_mode & S_IFMT == S_IFREG else { throw foreign(path, "it is no regular file") }
    guard status.st_uid == geteuid(), status.st_mode & 0o022 == 0 else {
      throw foreign(path, "it belongs to another user, or others may write it")
    }
    return status
  }

  /// The file is what this job has made on this machine.
  private static func require(_ mark: JobMark, _ path: String, _ status: stat) throws(RelayError) {
    let name = JobMark.path(of: path)
    let isOwn: Bool
    do throws(SmallFile.Refusal) {
      let text = String(decoding: try SmallFile.read(name, limit: 4096), as: UTF8.self)
      isOwn = text == mark.text(of: status)
    } catch {
      throw foreign(path, "its mark \(name) \(error.reason)")
    }
    guard isOwn else { throw foreign(path, "its mark \(name) is of another job, or of another file") }
  }

  /// A crash may leave the beginning of a line at the end, and a power cut NULs where it has lost what was written.
  /// Nothing else is cut.
  private static func cutUnfinishedLine(_ path: String, _ descriptor: Int32) throws(RelayError) {
    let size = lseek(descriptor, 0, SEEK_END)
    guard size >= 0 else { throw failure(path, errno) }
    var written = size
    var byte: UInt8 = 0
    // SAFETY: pread(2) writes one byte at most.
    while written > 0, pread(descriptor, &byte, 1, written - 1) == 1, byte == 0 { written -= 1 }
    var end = written
    // SAFETY: as above.
    while end > 0, pread(descriptor, &byte, 1, end - 1) == 1, byte != 0x0A { end -= 1 }
    if end < size {
      let beginning = Array(RecordLine.beginning.description.utf8)
      var bytes = [UInt8](repeating: 0, count: min(beginning.count, Int(written - end)))
      // SAFETY: pread(2) fills at most bytes.count bytes of the array's storage, which lives for the call.
      guard pread(descriptor, &bytes, bytes.count, end) == bytes.count, beginning.starts(with: bytes) else {
        throw foreign(path, "it ends with something that outboxd has not written")
      }
      guard ftruncate(descriptor, end) == 0 else { throw failure(path, errno) }
    }
    guard lseek(descriptor, end, SEEK_SET) == end else { throw failure(path, errno) }
  }

  private static func status(_ path: String, _ descriptor: Int32) throws(RelayError) -> stat {
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw failure(path, errno) }
    return status
  }

  private static func foreign(_ path: String, _ reason: String) -> RelayError {
    RelayError(
      .usage, "\(path) is not the file that this job has written: \(reason); nothing was changed",
      remedy:
        "Name the file that the job wrote when it began, on the same machine, with its mark FILE.job beside it; "
        + "or start the job again, with another file.")
  }

  private static func failure(_ path: String, _ code: Int32) -> RelayError {
    switch code {
    case EEXIST:
      return RelayError(
        .usage, "the file \(path) exists", remedy: "Name another file, or remove it: nothing is overwritten.")
    case ELOOP: return foreign(path, "it is a symbolic link")
    case ENOENT:
      return RelayError(
        .failed, "there is no file \(path), or no folder for it",
        remedy: "A resumed job needs what it has written: restore the file, or start the job again.")
    default:
      return RelayError(.failed, "\(path) cannot be opened: \(SmallFile.errorText(code))")
    }
  }
}
