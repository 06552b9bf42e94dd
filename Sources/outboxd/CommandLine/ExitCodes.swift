// Owns: what each exit code means, in words. The numbers are `RelayError.Kind.exitCode`'s.
// Must not know: why a process ends.

enum ExitCodes {
  static let all: [(code: Int32, meaning: String)] = [
    (0, "done, or stopped as asked with nothing lost"),
    (1, "failed"),
    (2, "the command line is invalid"),
    (10, "the slot is missing"),
    (11, "the slot is lost: its WAL is gone"),
    (12, "the slot is unsuitable: another plugin or database, or two-phase"),
    (13, "the slot was moved: events may have been skipped"),
    (14, "this is another database system than before"),
    (15, "the timeline has forked before the checkpoint"),
    (16, "the server's WAL ends before the checkpoint, or before an event in Kafka"),
    (17, "the server is unsuitable: version, settings, or a permanent error"),
    (18, "the publication is missing"),
    (19, "the publication does not publish what is configured"),
    (20, "the journal cannot be used or trusted"),
    (21, "the stream is malformed"),
    (22, "an outbox table lacks a column"),
    (23, "a row cannot become an event"),
    (24, "Kafka refuses a record permanently"),
    (25, "a topic does not exist, and kafka.missing_topic is refuse"),
    (26, "neither the WAL nor the tables have the range to replay"),
    (75, "Postgres or Kafka cannot be reached now: run the command again"),
    (77, "Postgres or Kafka refuses the login or a right"),
    (78, "the configuration has faults"),
    (130, "interrupted: a job that can be resumed, or a second signal"),
  ]

  static func meaning(of code: Int32) -> String? { all.first { $0.code == code }?.meaning }
}
