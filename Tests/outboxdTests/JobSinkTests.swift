// Owns: the sinks of jobs: the rate limit by a clock of its own, files, counts.
import Foundation
import RelayCore
import Testing

@testable import outboxd

/// Lends a record with these parts to `body`.
private func withRecord<Result>(
  topic: String = "t", value: String = "v", headers: [(String, String)] = [],
  _ body: (Record) throws -> Result
) rethrows -> Result {
  var storage: [UnsafeMutableRawBufferPointer] = []
  defer { storage.forEach { $0.deallocate() } }
  func lend(_ text: String) -> LentBytes {
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: text.utf8.count + 1, alignment: 1)
    buffer.copyBytes(from: Array(text.utf8) + [0])
    storage.append(buffer)
    return LentBytes(rebasing: buffer[..<text.utf8.count])
  }
  let list = headers.map { RecordHeader(name: lend($0.0), value: lend($0.1)) }
  return try list.withUnsafeBufferPointer {
    try body(Record(topic: lend(topic), key: lend("k"), value: lend(value), headers: $0))
  }
}

private func settled(_ sink: any RecordSink) throws -> [UInt64] {
  var tags: [UInt64] = []
  try sink.drain { tags.append($0.tag) }
  return tags
}

@Suite struct JobSinkTests {
  private final class Clock {
    var time = MonotonicTime(nanoseconds: 1_000_000_000_000)
    func advance(microseconds: UInt64) { time.nanoseconds += microseconds * 1000 }
  }

  private func ask(_ gate: RateGate) -> GateAnswer {
    withRecord {
      gate.answer(
        GateEvent(record: $0, place: EventSequence(commitLSN: .zero, index: 0), outstanding: 0))
    }
  }

  private func passes(_ gate: RateGate) -> Bool { if case .pass = ask(gate) { true } else { false } }

  /// Sends whenever the gate says that it is worth a try, for `seconds` of a clock that moves in steps.
  private func count(rate: Int, seconds: UInt64, step microseconds: UInt64) -> Int {
    let clock = Clock()
    let gate = RateGate(rate: rate, clock: { clock.time })
    let end = clock.time.advanced(milliseconds: Int(seconds * 1000))
    var sent = 0
    while clock.time < end {
      while true {
        switch ask(gate) {
        case .pass:
          sent += 1
          continue
        case .wait(let wait): #expect(wait.until > clock.time)
        case .skip, .divert: Issue.record("a rate neither skips nor rejects")
        }
        break
      }
      clock.advance(microseconds: microseconds)
    }
    return sent
  }

  @Test(arguments: [1, 3, 20, 250, 1000, 5000])
  func `the rate holds over time, however late the loop wakes up`(rate: Int) throws {
    for step in [100, 1_100, 13_000] as [UInt64] {
      let sent = count(rate: rate, seconds: 10, step: step)
      // One record at the start, and what fifty milliseconds have missed.
      #expect(sent >= rate * 10 - 1 - rate / 20, "\(step)")
      #expect(sent <= rate * 10 + 2 + rate / 20, "\(step)")
    }
  }

  @Test func `a pause is not made up for by more than fifty milliseconds' worth`() throws {
    let clock = Clock()
    let gate = RateGate(rate: 1000, clock: { clock.time })
    #expect(passes(gate))
    clock.advance(microseconds: 10_000_000)
    var burst = 0
    while passes(gate) { burst += 1 }
    #expect(burst == 51)
  }

  @Test func `lines are in the file when their records are settled, and a file is never overwritten`() throws
  {
    let folder = try TemporaryFolder()
    let path = folder.path + "/events.jsonl"
    let metrics = RelayMetrics()
    do {
      let sink = try JSONLinesSink(path: path, .create(nil), metrics: metrics)
      for tag in [4, 4, 5] as [UInt64] {
        #expect(try withRecord(value: "\(tag)") { try sink.send($0, tag: tag) } == .accepted)
      }
      #expect(try settled(sink) == [4, 4, 5])
      #expect(sink.synchronize())
      let text = try String(contentsOfFile: path, encoding: .utf8)
      #expect(text.split(separator: "\n").count == 3)
      #expect(text.hasPrefix(#"{"topic":"t","key":"k","headers":[],"value":"4"}"# + "\n"))
    }
    #expect(metrics.topics == ["t": 3])
    let refused = #expect(throws: RelayError.self) {
      try JSONLinesSink(path: path, .create(nil), metrics: metrics)
    }
    #expect(refused?.message == "the file \(path) exists")
    #expect(throws: RelayError.self) { try JSONLinesSink(path: path + "x", .append(nil), metrics: metrics) }
  }

  @Test func `a job that goes on cuts off what a crash left of a line, and appends`() throws {
    let folder = try TemporaryFolder()
    let half = #"{"topic":"t","key":"#
    let lost = String(repeating: "\0", count: 5000)
    for (before, kept) in [
      ("a\nb\n" + half, "a\nb\n"), (half, ""), ("{\"to", ""), ("", ""), ("a\n", "a\n"), ("a\n" + lost, "a\n"),
      ("a\n" + half + lost, "a\n"), ("a\n{\"to" + lost, "a\n"), (lost, ""),
    ] {
      let path = try folder.write(before, to: "events.jsonl")
      let sink = try JSONLinesSink(path: path, .append(nil), metrics: RelayMetrics())
      _ = try withRecord { try sink.send($0, tag: 1) }
      #expect(try settled(sink) == [1])
      let text = try String(contentsOfFile: path, encoding: .utf8)
      #expect(text == kept + #"{"topic":"t","key":"k","headers":[],"value":"v"}"# + "\n")
    }
  }

  private let mark = JobMark(job: 7, slot: "outboxd", systemIdentifier: 9)

  @Test func `a job goes on in the file that it has made, which only its owner reads`() throws {
    let folder = try TemporaryFolder()
    let path = folder.path + "/events.jsonl"
    close(try JobFile.open(path, .create(mark)))
    for file in [path, JobMark.path(of: path)] {
      #expect(try SmallFile.status(file).mode == 0o600)
    }
    close(try JobFile.open(path, .append(mark)))
    close(try JobFile.open(path, .appendOrCreate(mark)))
    for other in [
      JobMark(job: 8, slot: "outboxd", systemIdentifier: 9), JobMark(job: 7, slot: "o", systemIdentifier: 9),
      JobMark(job: 7, slot: "outboxd", systemIdentifier: 8),
    ] {
      #expect(throws: RelayError.self) { try JobFile.open(path, .append(other)) }
    }
  }

  @Test func `a crash between the file and its mark leaves a job that goes on where nothing was written`()
    throws
  {
    let folder = try TemporaryFolder()
    let path = try folder.write("", to: "events.jsonl")
    func isRefused(_ opening: JobFile.Opening) {
      let error = #expect(throws: RelayError.self) { try JobFile.open(path, opening) }
      #expect(error?.kind == .usage, "\(String(describing: error))")
    }
    chmod(path, 0o644)
    isRefused(.appendOrCreate(mark))
    chmod(path, 0o600)
    // A position is stored: there have been lines.
    isRefused(.append(mark))
    _ = try folder.write("", to: "events.jsonl.job")
    isRefused(.appendOrCreate(mark))
    unlink(JobMark.path(of: path))
    close(try JobFile.open(path, .appendOrCreate(mark)))
    close(try JobFile.open(path, .append(mark)))
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
        == ["events.jsonl", "events.jsonl.job"])
    // The number of a device does not outlive a restart.
    let text = try String(contentsOfFile: JobMark.path(of: path), encoding: .utf8)
    #expect(text.contains("inode") && !text.contains("device"), "\(text)")
  }

  @Test func `a mark that cannot be made leaves no file behind`() throws {
    let folder = try TemporaryFolder()
    // As long as a name may be, without what the mark's has more.
    let path = folder.path + "/" + String(repeating: "f", count: 240)
    let error = #expect(throws: RelayError.self) { try JobFile.open(path, .create(mark)) }
    #expect(error?.kind == .failed)
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == [])
  }

  @Test func `a file that the job has not made is neither cut nor appended to`() throws {
    let folder = try TemporaryFolder()
    let foreign = "alias ls=ls\nhalf a li"
    func isRefused(_ path: String, _ reason: String) {
      for opening in [JobFile.Opening.append(mark), .appendOrCreate(mark)] {
        let error = #expect(throws: RelayError.self) { try JobFile.open(path, opening) }
        #expect(error?.kind == .usage && error?.message.contains(reason) == true, "\(error?.message ?? "")")
      }
    }
    let victim = try folder.write(foreign, to: "bashrc")
    isRefused(victim, "bashrc.job cannot be read: No such file")
    // A mark of the same job beside another file, and one beside a link to it.
    let own = folder.path + "/own"
    close(try JobFile.open(own, .create(mark)))
    try FileManager.default.copyItem(atPath: own + ".job", toPath: victim + ".job")
    isRefused(victim, "is of another job, or of another file")
    try FileManager.default.createSymbolicLink(atPath: folder.path + "/link", withDestinationPath: own)
    isRefused(folder.path + "/link", "it is a symbolic link")
    mkfifo(folder.path + "/fifo", 0o600)
    isRefused(folder.path + "/fifo", "it is no regular file")
    // Somebody has written behind the job's lines.
    try Data(foreign.utf8).write(to: URL(fileURLWithPath: own + "x"))
    let handle = try #require(FileHandle(forUpdatingAtPath: own))
    try handle.write(contentsOf: Data(foreign.utf8))
    try handle.close()
    isRefused(own, "it ends with something that outboxd has not written")
    try Data((foreign + "\0\0").utf8).write(to: URL(fileURLWithPath: own + "z"))
    #expect(throws: RelayError.self) { try JobFile.open(own + "z", .append(nil)) }
    #expect(try String(contentsOfFile: own, encoding: .utf8) == foreign)
    #expect(try String(contentsOfFile: victim, encoding: .utf8) == foreign)
    chmod(own, 0o666)
    isRefused(own, "others may write it")
  }

  @Test func `a new job overwrites neither a file, nor one in the place of its mark`() throws {
    let folder = try TemporaryFolder()
    let path = folder.path + "/new"
    let taken = try folder.write("mine", to: "new.job")
    let error = #expect(throws: RelayError.self) { try JobFile.open(path, .create(mark)) }
    #expect(error?.message == "the file \(taken) exists")
    #expect(try String(contentsOfFile: taken, encoding: .utf8) == "mine")
    #expect(access(path, F_OK) != 0)
    for kind in ["link", "fifo"] {
      let name = folder.path + "/\(kind)"
      if kind == "link" { symlink(taken, name) } else { mkfifo(name, 0o600) }
      let error = #expect(throws: RelayError.self) { try JobFile.open(name, .create(mark)) }
      #expect(error?.message == "the file \(name) exists")
    }
  }

  @Test func `a full disk ends the job, and settles nothing`() throws {
    let sink = try JSONLinesSink(
      descriptor: open("/dev/full", O_WRONLY | O_CLOEXEC), name: "full", metrics: RelayMetrics())
    _ = try withRecord { try sink.send($0, tag: 1) }
    let failure = #expect(throws: RelayError.self) { try settled(sink) }
    #expect(failure?.kind == .failed)
    #expect(failure?.message.contains("No space left") == true)
    #expect(throws: RelayError.self) { try settled(sink) }
  }

  @Test func `a dry run counts by topic, source and type, with the span`() throws {
    let sink = try CountingSink()
    let events = [("T", "2026-11-21T10:00:01Z", "a"), ("U", "2026-11-21T10:00:00.5Z", "5")]
    for (type, time, sequence) in events {
      let headers = [
        ("ce_source", "/s"), ("ce_type", type), ("ce_time", time),
        ("ce_sequence", "000000000000000\(sequence)-00000000"),
      ]
      _ = withRecord(headers: headers) { sink.send($0, tag: 1) }
    }
    #expect(try settled(sink) == [1, 1])
    #expect(sink.counts.records == 2 && sink.counts.topics == ["t": 2] && sink.counts.sources == ["/s": 2])
    #expect(sink.counts.types == ["T": 1, "U": 1])
    #expect(sink.counts.firstLSN == LSN(5) && sink.counts.lastLSN == LSN(10))
    #expect(sink.counts.lastTime == (try RFC3339.parse("2026-11-21T10:00:01Z")))
    #expect(sink.counts.firstTime == (try RFC3339.parse("2026-11-21T10:00:00.5Z")))
  }
}
