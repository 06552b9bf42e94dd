// Owns: what `--resume` goes on with, and how it is said.
// Must not know: what a job does.
import Glibc
import PostgresSource
import RelayCore

enum JobResumption {
  /// The interrupted job that `--resume` goes on with: the newest, or the one that `--job` names. The configuration then
  /// leads to the server that has it.
  /// - Parameter options: those that it was given at its start, and takes no more.
  /// - Throws: `usage` where there is none.
  static func interrupted(
    _ command: String, without options: [String], _ invocation: Invocation,
    _ configuration: inout Configuration
  ) throws(RelayError) -> JobRecord {
    if let option = options.first(where: invocation.isSet) {
      throw invocation.usage(
        "--resume does what the \(command) was asked for before: it takes no --\(option)")
    }
    let slot = configuration.postgres.slot
    let id = try invocation.number("job", in: 1...Int.max)
    configuration.postgres = try configuration.postgres.identified(stop: StopSignal())
    let store = try JobStore(settings: configuration.postgres, stop: StopSignal())
    guard let id else {
      guard let record = try store.unfinished(command: command).first(where: { !$0.isRunning }) else {
        throw RelayError(.usage, "there is no interrupted \(command) of slot \"\(slot)\" to resume")
      }
      return record
    }
    guard let (record, isFinished) = try store.find(Int64(id)), record.command == command else {
      throw RelayError(.usage, "there is no \(command) with the number \(id) of slot \"\(slot)\"")
    }
    if isFinished {
      throw RelayError(.usage, "\(command) \(id) has come to its end: there is nothing to resume")
    }
    if record.isRunning { throw RelayError(.usage, "another process works on \(command) \(id) now") }
    return record
  }

  /// Its request does not say what this version needs.
  static func unreadable(_ record: JobRecord) -> RelayError {
    RelayError(.failed, "job \(record.id) was written by another version of outboxd: start it anew")
  }

  /// Where an interrupted job goes on: only the command line says which file is written.
  /// - Parameters:
  ///   - recorded: the file that the job's row names. It is shown, and never opened.
  ///   - command: `replay` or `backfill`.
  /// - Throws: `usage` where the job writes to a file and none is given, or the other way round.
  static func file(
    recorded: String?, _ command: String, _ id: Int64, _ invocation: Invocation
  ) throws(RelayError) -> String? {
    let given = invocation.value("to-file")
    guard let recorded else {
      if given == nil { return nil }
      throw invocation.usage("\(command) \(id) sends to Kafka: it takes no --to-file")
    }
    guard let given else {
      throw RelayError(
        .usage,
        "\(command) \(id) writes to a file, which must be named again: the database does not decide which file is "
          + "written. Its row in outboxd.job says \(PrintableText.quoted(recorded))",
        remedy:
          "If that is the file that you gave it: \(self.command(command, id, invocation, file: "FILE")), with its "
          + "path as FILE.")
    }
    guard !given.isEmpty, given != "-" else {
      throw invocation.usage("\(command) \(id) writes to a file: --to-file needs its path")
    }
    return absolute(given)
  }

  /// From the root: the job's row shows it to whoever is in another folder.
  static func absolute(_ path: String) -> String {
    guard !path.hasPrefix("/"), let folder = getcwd(nil, 0) else { return path }
    // SAFETY: getcwd allocates a NUL-terminated text, which is freed once.
    defer { free(folder) }
    return String(cString: folder) + "/" + path
  }

  /// The command line that goes on with a job.
  /// - Parameter file: what this process writes to; nil for Kafka.
  static func command(
    _ command: String, _ id: Int64, _ invocation: Invocation, file: String? = nil
  ) -> String {
    func option(_ name: String, _ value: String?) -> String {
      value.map { " --\(name) \(ShellText.quoted($0))" } ?? ""
    }
    return "outboxd \(command) --resume --job \(id)" + option("config", invocation.value("config"))
      + option("to-file", file)
  }
}
