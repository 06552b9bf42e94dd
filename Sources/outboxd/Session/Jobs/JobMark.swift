// Owns: the mark beside the file of a job, by which the job knows its file again.
// Must not know: what the file holds.
import CSystem
import Glibc
import RelayCore

/// The mark `FILE.job` that a job leaves beside its file until it has come to its end. The database says which jobs there
/// are, and whoever can write there must not decide which file is written: a job goes on in a file only where this
/// machine's mark says that the job made it.
struct JobMark: Equatable, Sendable {
  /// The number in `outboxd.job`.
  var job: Int64
  var slot: String
  /// The cluster's. 0: not known.
  var systemIdentifier: UInt64

  /// Beside the file.
  static func path(of file: String) -> String { file + ".job" }

  /// Also where it is a link that leads nowhere.
  static func exists(beside file: String) -> Bool {
    var status = stat()
    return lstat(path(of: file), &status) == 0
  }

  /// As a whole or not at all.
  /// - Throws: `usage` where there is a file in its place; `failed` with the system's reason. It is not there then.
  func write(beside file: String, _ status: stat) throws(RelayError) {
    let name = Self.path(of: file)
    if Self.exists(beside: file) {
      throw RelayError(
        .usage, "the file \(name) exists", remedy: "Name another file, or remove it: nothing is overwritten.")
    }
    let new = try LinesFile(path: name + "." + String(UInt64.random(in: 0 ... .max), radix: 16))
    do throws(RelayError) {
      try new.append(contentsOf: text(of: status).utf8)
      try new.synchronize()
      try new.rename(to: name)
    } catch {
      new.remove()
      throw error
    }
  }

  func text(of file: stat) -> String {
    JSONValue.object([
      .init("job", .integer(job)), .init("slot", .text(slot)),
      .init("system_identifier", .text(String(systemIdentifier))),
      // The mark lies in the file's folder. The number of the device may be another one after a restart.
      .init("inode", .text(String(file.st_ino))),
    ]).compact + "\n"
  }
}
