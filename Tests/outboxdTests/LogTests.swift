// Owns: the promises of a log line: its three forms, and the limit on repeats.
import Foundation
import RelayCore
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
