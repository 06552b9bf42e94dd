// Owns: the command line of a replay, what it keeps of itself, and what is seen of it, without servers.
import Foundation
import PostgresSource
import RelayCore
import Testing

@testable import outboxd

private let now: PostgresMicroseconds = 848_000_000_000_000

private func place(_ text: String) -> String {
  do {
    return "\(try ReplayPlaceText.parse(text, option: "--from", now: now))"
  } catch {
    return "\(error.kind): \(error.message)"
  }
}

private func options(_ words: String...) -> Result<ReplayOptions, RelayError> {
  do throws(RelayError) {
    let invocation = try CommandParser.parse(["replay"] + words, environment: [:])
    let mappings = [OutboxMapping(), OutboxMapping(schema: "payments", table: "events")]
    return .success(try ReplayOptions(invocation, mappings: mappings, now: now))
  } catch {
    return .failure(error)
  }
}

private func fault(_ words: String...) -> String {
  do throws(RelayError) {
    let invocation = try CommandParser.parse(["replay"] + words, environment: [:])
    let mappings = [OutboxMapping(), OutboxMapping(schema: "payments", table: "events")]
    _ = try ReplayOptions(invocation, mappings: mappings, now: now)
    return "no error"
  } catch {
    return "\(error.kind): \(error.message)"
  }
}

@Suite struct ReplayTests {
  @Test(arguments: [
    ("0/16B3748", ReplayPlace.lsn(LSN(0x16B_3748))), ("1/0", .lsn(LSN(0x1_0000_0000))),
    ("00000000019a3f28-00000007", .lsn(LSN(0x19A_3F28))), ("30s", .time(now - 30_000_000)),
    ("15m", .time(now - 900_000_000)), ("2h", .time(now - 7_200_000_000)),
    ("3d", .time(now - 259_200_000_000)), ("2000-01-01T00:00:00Z", .time(0)),
    ("2000-01-01 01:00:00.5+01:00", .time(500_000)),
  ])
  func `a place is an LSN, a sequence, a time or an age`(text: String, expected: ReplayPlace) throws {
    #expect(try ReplayPlaceText.parse(text, option: "--from", now: now) == expected)
  }

  @Test func `a bad place gets one line that says why`() {
    #expect(place("0/XYZ").hasPrefix("usage: --from \"0/XYZ\" is not an LSN: two hexadecimal numbers"))
    #expect(place("0/0") == "usage: --from \"0/0\" is not a position in the WAL")
    #expect(
      place("2026-11-21T10:00:00")
        == "usage: --from \"2026-11-21T10:00:00\" has no zone; for UTC write 2026-11-21T10:00:00Z")
    for text in ["", "yesterday", "2w", "m", "-3d", "99999999999d", "2026-11-21", "16B3748", "١m"] {
      #expect(place(text) == "usage: --from \"\(text)\" is neither an LSN nor a time", "\(text)")
    }
    #expect(place("999999999d") == "usage: --from \"999999999d\" is too long ago")
  }

  @Test func `the options of a replay are read as values`() throws {
    let read = try options(
      "--from", "0/10", "--to", "0/20", "--source", "wal", "--outbox", "public.outbox", "--outbox",
      "payments.events", "--aggregate-type", "order", "--aggregate-id", "4711", "--type", "Placed", "--id",
      "x",
      "--topic", "a.b", "--rate", "5"
    ).get()
    #expect(read.from == .lsn(LSN(0x10)) && read.to == .lsn(LSN(0x20)) && read.origin == .wal)
    #expect(
      read.events.selection
        == EventSelection(
          outboxes: ["public.outbox", "payments.events"], aggregatetypes: ["order"], subjects: ["4711"],
          types: ["Placed"], ids: ["x"]))
    #expect(read.events.topic == "a.b" && read.events.rate == 5 && !read.isDryRun && read.events.file == nil)
  }

  @Test func `what a replay cannot do is said on one line, before anything is connected to`() throws {
    #expect(fault() == "usage: replay needs --from, or --resume")
    #expect(fault("--from", "0/20", "--to", "0/10") == "usage: --to 0/10 is before --from 0/20")
    #expect(
      fault("--from", "1m", "--to", "2m").hasPrefix("usage: --to 2026-11-14T19:31:20Z is before --from"),
      "\(fault("--from", "1m", "--to", "2m"))")
    #expect(
      fault("--from", "1m", "--outbox", "public.outbx")
        == "usage: --outbox \"public.outbx\" is none of the configured outboxes "
        + "(public.outbox, payments.events); did you mean \"public.outbox\"?")
    #expect(fault("--from", "1m", "--outbox", "orders").contains("none of the configured outboxes"))
    #expect(fault("--from", "1m", "--topic", "a b").hasPrefix("usage: --topic \"a b\" is not a topic name"))
    #expect(fault("--from", "1m", "--topic", "..").contains("not a topic name"))
    for rate in ["0", "-1", "x", "1.5"] {
      #expect(
        fault("--from", "1m", "--rate", rate).hasPrefix("usage: --rate must be a number from 1 to"), "\(rate)"
      )
    }
    #expect(fault("--from", "1m", "--dry-run", "--to-file", "x").contains("--dry-run writes nothing"))
    #expect(fault("--from", "1m", "--json", "--to-file", "-").contains("both write to standard output"))
    let folder = try TemporaryFolder()
    let file = try folder.write("", to: "there")
    #expect(fault("--from", "1m", "--to-file", file) == "usage: the file \(file) exists")
    #expect(fault("--from", "1m", "--source", "tabel").contains("did you mean table?"))
  }

  @Test func `a request is the same after it was kept as JSON`() throws {
    var request = ReplayRequest(
      plan: ReplayPlan(
        origin: .table, from: LSN(0x10), through: LSN(0x1_0000_0000), fromTime: -5, toTime: .max,
        published: LSN(7), lowestTransaction: .max, endTransaction: 3, notes: ["a \"superset\""]))
    request.events.selection = EventSelection(
      outboxes: ["public.\"a\""], aggregatetypes: ["é"], subjects: ["\u{1}"], types: ["t"], ids: ["1", "2"])
    request.events.topic = "a.b"
    request.events.file = "/tmp/x y"
    request.events.rate = 9
    #expect(ReplayRequest(json: request.json.compact) == request)
    let plain = ReplayRequest(
      plan: ReplayPlan(origin: .wal, from: LSN(1), through: LSN(2), published: LSN(3)))
    #expect(ReplayRequest(json: plain.json.compact) == plain)
    #expect(plain.options == RelayOptions(replayMark: "wal"))
    #expect(request.options.hasPositions == false && request.options.selection?.from == -5)
    for text in ["", "{}", "[]", #"{"source":"wal"}"#, #"{"source":"x","from":"0/1"}"#] {
      #expect(ReplayRequest(json: text) == nil, "\(text)")
    }
  }

  @Test func `a row of outboxd.job asks for nothing that the command line could not ask for`() {
    let plain = ReplayRequest(
      plan: ReplayPlan(origin: .wal, from: LSN(1), through: LSN(2), published: LSN(3)))
    for (topic, rate, isTaken) in [
      ("orders.repair", 5, true), ("a b", 5, false), ("a\u{1B}[2J", 5, false), ("..", 5, false),
      ("t", 0, false), ("t", -1, false),
    ] {
      var request = plain
      (request.events.topic, request.events.rate) = (topic, rate)
      #expect((ReplayRequest(json: request.json.compact) != nil) == isTaken, "\(topic) \(rate)")
      let tables = JSONValue.object([
        .init("start_lsn", .text("0/1")), .init("tables", .array([])), .init("topic", .text(topic)),
        .init("rate", .integer(Int64(rate))),
      ])
      #expect((TableRequest(json: tables.compact) != nil) == isTaken, "\(topic) \(rate)")
    }
  }

  @Test func `a row of outboxd.job decides neither the file nor the topic of a job that goes on`() throws {
    func place(file: String?, topic: String?, _ words: String...) -> Result<String?, RelayError> {
      do throws(RelayError) {
        let invocation = try CommandParser.parse(["backfill", "--resume"] + words, environment: [:])
        return .success(
          try JobResumption.place(file: file, topic: topic, "backfill", 7, [OutboxMapping()], invocation))
      } catch {
        return .failure(error)
      }
    }
    func refusal(_ result: Result<String?, RelayError>) -> String {
      guard case .failure(let error) = result else { return "\(result)" }
      return "\(error.kind): \(error.message): \(error.remedy ?? "")"
    }
    #expect(try place(file: nil, topic: nil).get() == nil)
    #expect(try place(file: nil, topic: "a.b", "--topic", "a.b").get() == nil)
    #expect(try place(file: "/x", topic: "a.b", "--to-file", "/y", "--topic", "a.b").get() == "/y")
    let hidden = place(file: nil, topic: "__consumer_offsets", "--topic", "__consumer_offsets")
    #expect(refusal(hidden).contains("is an internal topic of Kafka"), "\(refusal(hidden))")
    let unnamed = refusal(place(file: nil, topic: "__consumer_offsets", "--config", "c"))
    #expect(unnamed.hasPrefix("usage: "), "\(unnamed)")
    #expect(unnamed.contains("says \"__consumer_offsets\""), "\(unnamed)")
    #expect(
      unnamed.contains("outboxd backfill --resume --job 7 --config c --topic TOPIC, with"), "\(unnamed)")
    let other = refusal(place(file: "/x", topic: "a.b", "--topic", "c", "--to-file", "/y"))
    #expect(other.hasPrefix("usage: ") && other.contains("--to-file /y --topic TOPIC"), "\(other)")
    let neither = refusal(place(file: "/x", topic: "a.b"))
    #expect(neither.contains("--to-file FILE --topic TOPIC"), "\(neither)")
    #expect(refusal(place(file: nil, topic: nil, "--topic", "a")).contains("takes no --topic"))
    #expect(refusal(place(file: nil, topic: nil, "--to-file", "/x")).contains("takes no --to-file"))
    #expect(EventRequest().place.map(\.1) == ["Kafka", "of each outbox"])
  }

  // MARK: What is seen

  @Test func `the progress line has its numbers and is never wider than asked`() {
    var progress = JobProgress(
      done: 500, total: 1000, read: 4000, sent: 1200, rate: 400.4, milliseconds: 3000)
    #expect(
      progress.line(verb: "replaying", width: 79)
        == "replaying [##########----------] 50%  1,200 sent, 4,000 read  400/s  0:03 left")
    progress.hold = "topic \"x\"\n does not exist; records for it wait until it is created"
    let line = progress.line(verb: "replaying", width: 79)
    #expect(
      line.count == 79 && line.hasSuffix("…")
        && line.hasPrefix("replaying 50%  1,200 sent, 4,000 read  waiting: topic \"x\"\\n does"))
    let unknown = JobProgress(read: 3, sent: 3)
    #expect(unknown.line(verb: "x", width: 79) == "x [--------------------] ?  3 sent  0/s")
    #expect(JobProgress(done: 9, total: 3).fraction == 1)
    #expect(JobProgress(done: 0, total: 3, milliseconds: 5000).secondsLeft == nil)
  }

  @Test func `numbers and durations are written for people`() {
    #expect(JobText.grouped(0) == "0" && JobText.grouped(999) == "999" && JobText.grouped(1000) == "1,000")
    #expect(JobText.grouped(.max) == "18,446,744,073,709,551,615")
    #expect(JobText.duration(seconds: 7) == "0:07" && JobText.duration(seconds: 723) == "12:03")
    #expect(JobText.duration(seconds: 10_807) == "3:00:07")
  }

  @Test func `a path that a shell would change is quoted in the command that goes on`() {
    #expect(ShellText.quoted("/etc/outboxd.yaml") == "/etc/outboxd.yaml")
    #expect(ShellText.quoted("a b'c") == "'a b'\\''c'")
    #expect(ShellText.quoted("") == "''")
    // To Swift a quote and the accent after it are one character, and to a shell they are not.
    #expect(ShellText.quoted("'\u{301};touch x") == "''\\''\u{301};touch x'")
  }

  @Test func `a table's name cannot leave its quotes`() {
    #expect(QualifiedName.text("public", "a\"b") == "public.\"a\"\"b\"")
    #expect(QualifiedName.text("public", "a\"\u{301}b") == "public.\"a\"\"\u{301}b\"")
  }

  @Test func `a secret that --set gave does not come again in a command to type`() {
    #expect(
      Redaction.word("postgres.conninfo=host=h password=hunter2", of: "set")
        == "postgres.conninfo=password=\(Redaction.dots) host=h")
    #expect(
      Redaction.word("kafka.properties.sasl.password=hunter2", of: "set")
        == "kafka.properties.sasl.password=\(Redaction.dots)")
    for plain in ["postgres.slot=a", "kafka.properties.linger.ms=5", "since", "postgres.slot="] {
      #expect(Redaction.word(plain, of: "set") == plain)
    }
    #expect(
      Redaction.word("postgres.conninfo=x password=y", of: "config") == "postgres.conninfo=x password=y")
  }
}
