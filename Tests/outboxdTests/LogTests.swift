// Owns: the promises of a log line: its three forms, and the limit on repeats.
import Foundation
import Glibc
import RelayCore
import Synchronization
import Testing

/// The lines that `body` makes a log write.
private func lines(
  _ format: Log.Format, level: Log.Level = .debug, _ body: (Log) -> Void
) throws -> [String] {
  let pipe = Pipe()
  body(Log(level: level, format: format, descriptor: pipe.fileHandleForWriting.fileDescriptor))
  pipe.fileHandleForWriting.closeFile()
  let text = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
  #expect(text.isEmpty || text.hasSuffix("\n"))
  return text.split(separator: "\n").map(String.init)
}

private let stamp = "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z"

private func matches(_ text: String, _ pattern: String) -> Bool {
  text.range(of: "^\(pattern)$", options: .regularExpression) != nil
}

@Suite struct LogTests {
  @Test("A line has its time, level, message and fields in each format, and stays one line")
  func formats() throws {
    func line(_ format: Log.Format) throws -> String {
      let written = try lines(format) {
        $0.warning(
          "slot is lost", ("lsn", "16/B374D848"), ("text", "a b"), ("bad", "x\n\u{1B}[2J\""), ("none", ""))
      }
      #expect(written.count == 1)
      return written.first ?? ""
    }
    let fields = #"lsn=16/B374D848 text="a b" bad="x\\n\\u001b\[2J\\"" none="""#
    #expect(matches(try line(.text), #"\#(stamp) warning slot is lost \#(fields)"#))
    #expect(matches(try line(.logfmt), #"ts=\#(stamp) level=warning msg="slot is lost" \#(fields)"#))
    let object = try #require(
      try JSONSerialization.jsonObject(with: Data(line(.json).utf8)) as? [String: String])
    #expect(object["msg"] == "slot is lost" && object["level"] == "warning" && object["lsn"] == "16/B374D848")
    #expect(object["bad"] == "x\n\u{1B}[2J\"" && object["none"] == "")
    #expect(matches(object["ts"] ?? "", stamp))
  }

  @Test("No format lets a stranger's text steer a terminal or its reader")
  func steering() throws {
    for format in Log.Format.allCases {
      let line = try #require(
        try lines(format) { $0.notice("row \u{1B}[2J", ("id", "a\u{202E}b\u{9B}c\u{2066}")) }.first)
      #expect(line.contains(#"a\u202eb\u009bc\u2066"#) && line.contains(#"row \u001b[2J"#), "\(line)")
      #expect(!line.unicodeScalars.contains(where: PrintableText.isControl))
    }
  }

  @Test("An error has its kind, code and remedy as fields")
  func errors() throws {
    let error = RelayError(.slotMissing, "no slot", code: "42704", remedy: "outboxd init")
    let object = try #require(
      try JSONSerialization.jsonObject(with: Data(lines(.json) { $0.error("halted", error) }[0].utf8))
        as? [String: String])
    #expect(object["reason"] == "no slot" && object["kind"] == "slotMissing")
    #expect(object["code"] == "42704" && object["remedy"] == "outboxd init")
  }

  @Test("Lines below the level are not written")
  func levels() throws {
    let written = try lines(.logfmt, level: .notice) {
      $0.debug("a")
      $0.info("b")
      $0.notice("c")
      $0.error("d")
    }
    #expect(written.map { $0.suffix(1) } == ["c", "d"])
  }

  @Test("Repeats are limited by message, whatever their fields, and other messages pass")
  func repeats() throws {
    let written = try lines(.logfmt) { log in
      for attempt in 0..<100 { log.warning("cannot connect", ("attempt", String(attempt))) }
      log.warning("other")
    }
    #expect(written.count == 6)
    #expect(written.last?.hasSuffix("msg=other") == true)
  }

  /// What waits in the pipe.
  private func content(of pipe: Pipe) -> Data {
    let reader = pipe.fileHandleForReading.fileDescriptor
    var content = Data()
    var piece = [UInt8](repeating: 0, count: 65536)
    var entry = pollfd(fd: reader, events: Int16(POLLIN), revents: 0)
    while poll(&entry, 1, 0) > 0 {
      let count = read(reader, &piece, piece.count)
      guard count > 0 else { break }
      content += piece[..<count]
    }
    return content
  }

  /// Ends of a pipe whose reader has not read for long: its writer has nothing to say to it.
  private func fullPipe() -> Pipe {
    let pipe = Pipe()
    let writer = pipe.fileHandleForWriting.fileDescriptor
    var piece = [UInt8](repeating: 0x2E, count: 4096)
    piece[4095] = 0x0A
    while true {
      var entry = pollfd(fd: writer, events: Int16(POLLOUT), revents: 0)
      guard poll(&entry, 1, 0) > 0 else { return pipe }
      _ = Glibc.write(writer, piece, piece.count)
    }
  }

  @Test("Lines that nobody reads are dropped and counted, and told of when somebody reads again")
  func unread() throws {
    let pipe = fullPipe()
    let metrics = RelayMetrics()
    let log = Log(
      format: .logfmt, descriptor: pipe.fileHandleForWriting.fileDescriptor, metrics: metrics)
    let start = MonotonicTime.now()
    for number in 0..<1000 { log.info("line \(number)") }
    #expect(start.milliseconds(until: .now(), limit: .max) < 5_000)
    let dropped = metrics.logLinesDropped.load(ordering: .relaxed)
    #expect(dropped >= 900)
    // Whoever shares the pipe still waits for it: the mode of what is shared was not touched.
    #expect(fcntl(pipe.fileHandleForWriting.fileDescriptor, F_GETFL) & O_NONBLOCK == 0)
    var text = content(of: pipe)
    log.info("again")
    text += content(of: pipe)
    let written = String(decoding: text, as: UTF8.self).split(separator: "\n").filter { !$0.hasPrefix(".") }
    #expect(written.last?.hasSuffix("msg=again") == true)
    #expect(
      written.dropLast().last?.hasSuffix(
        "msg=\"log lines were dropped: nobody was reading standard error\" lines=\(dropped)") == true)
    #expect(metrics.logLinesDropped.load(ordering: .relaxed) == dropped)
  }

  @Test("A line longer than a pipe takes arrives whole once it is read, and no line comes into its middle")
  func longLines() throws {
    let pipe = fullPipe()
    let log = Log(format: .logfmt, descriptor: pipe.fileHandleForWriting.fileDescriptor)
    _ = content(of: pipe)
    let long = String(repeating: "x", count: 200_000)
    log.info("long", ("text", long))
    log.info("dropped")
    var text = Data()
    for turn in 0..<10 {
      text += content(of: pipe)
      log.info("turn \(turn)")
    }
    let written = String(decoding: text, as: UTF8.self).split(separator: "\n").filter { !$0.hasPrefix(".") }
    #expect(written.first?.hasSuffix("msg=long text=\(long)") == true)
    #expect(written.dropFirst().allSatisfy { $0.hasPrefix("ts=") && !$0.contains("x") })
    #expect(!written.contains { $0.hasSuffix("msg=dropped") })
  }

  @Test("A log that nobody reads any more does not stop its writer")
  func closed() {
    signal(SIGPIPE, SIG_IGN)
    let pipe = Pipe()
    pipe.fileHandleForReading.closeFile()
    let log = Log(descriptor: pipe.fileHandleForWriting.fileDescriptor)
    log.error("nobody reads this")
    Log(descriptor: -1).error("nor this")
  }
}
