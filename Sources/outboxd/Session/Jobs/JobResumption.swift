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
        "--resume uses the options of the interrupted \(command): it takes no --\(option)")
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
      throw RelayError(.usage, "\(command) \(id) is finished: there is nothing to resume")
    }
    if record.isRunning { throw RelayError(.usage, "another process is working on \(command) \(id)") }
    return record
  }

  /// Its request does not say what this version needs.
  static func unreadable(_ record: JobRecord) -> RelayError {
    RelayError(.failed, "job \(record.id) was written by another version of outboxd: start it again")
  }

  /// What the command line of a resumed job says of its events.
  /// - Throws: as `place`.
  static func take(
    _ events: inout EventRequest, _ record: JobRecord, _ mappings: [OutboxMapping], _ invocation: Invocation
  ) throws(RelayError) {
    if let rate = try EventRequest.rate(invocation) { events.rate = rate }
    events.file = try place(
      file: events.file, topic: events.topic, record.command, record.id, mappings, invocation)
  }

  /// Where an interrupted job goes on: only the command line says which file is written, and to which topic is sent in
  /// place of the outboxes' own.
  /// - Parameters:
  ///   - recorded: what the job's row names. It is shown and compared, and never used.
  ///   - command: `replay` or `backfill`.
  /// - Returns: the file, from the root; nil for Kafka.
  /// - Throws: `usage` where the job has a file or a topic and none is given, or the other way round, or another topic.
  static func place(
    file recorded: String?, topic: String?, _ command: String, _ id: Int64, _ mappings: [OutboxMapping],
    _ invocation: Invocation
  ) throws(RelayError) -> String? {
    let file = invocation.value("to-file")
    if recorded == nil, file != nil {
      throw invocation.usage("\(command) \(id) sends to Kafka: it takes no --to-file")
    }
    if topic == nil, invocation.isSet("topic") {
      throw invocation.usage("\(command) \(id) has the outboxes' own topics: it takes no --topic")
    }
    let whole = self.command(
      command, id, invocation, file: recorded.map { _ in file ?? "FILE" }, topic: topic.map { _ in "TOPIC" })
    if let recorded, file == nil {
      throw RelayError(
        .usage,
        "\(command) \(id) writes to a file, which you must name again: the database does not decide which file is "
          + "written. Its row in outboxd.job says \(PrintableText.quoted(recorded))",
        remedy: "If that is the file that you gave it: \(whole), with its path as FILE"
          + (topic.map { " and \(PrintableText.quoted($0)), if you gave it that, as TOPIC." } ?? "."))
    }
    if let topic, invocation.value("topic") != topic {
      throw RelayError(
        .usage,
        "\(command) \(id) has its own topic, which you must name again: the database does not decide which topic "
          + "is written. Its row in outboxd.job says \(PrintableText.quoted(topic))",
        remedy:
          "If that is the topic that you gave it: \(whole), with its name as TOPIC. If not, start the job again."
      )
    }
    try EventRequest.check(topic: topic, mappings, invocation)
    guard let file else { return nil }
    guard !file.isEmpty, file != "-" else {
      throw invocation.usage("\(command) \(id) writes to a file: --to-file needs its path")
    }
    return absolute(file)
  }

  /// From the root: the job's row shows it to whoever is in another folder.
  static func absolute(_ path: String) -> String {
    guard !path.hasPrefix("/"), let folder = getcwd(nil, 0) else { return path }
    // SAFETY: getcwd allocates a NUL-terminated text, which is freed once.
    defer { free(folder) }
    return String(cString: folder) + "/" + path
  }

  /// The command line that goes on with a job.
  /// - Parameters:
  ///   - file: what this process writes to; nil for Kafka.
  ///   - topic: nil for the outboxes' own.
  static func command(
    _ command: String, _ id: Int64, _ invocation: Invocation, file: String? = nil, topic: String? = nil
  ) -> String {
    func option(_ name: String, _ value: String?) -> String {
      value.map { " --\(name) \(ShellText.quoted($0))" } ?? ""
    }
    return "outboxd \(command) --resume --job \(id)" + option("config", invocation.value("config"))
      + option("to-file", file) + option("topic", topic)
  }
}
