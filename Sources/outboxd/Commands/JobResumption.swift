// Owns: what `--resume` goes on with, and how it is said.
// Must not know: what a job does.
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

  /// The command line that goes on with a job.
  static func command(_ command: String, _ id: Int64, _ invocation: Invocation) -> String {
    let file = invocation.value("config").map { " --config \(ShellText.quoted($0))" } ?? ""
    return "outboxd \(command) --resume --job \(id)\(file)"
  }
}
