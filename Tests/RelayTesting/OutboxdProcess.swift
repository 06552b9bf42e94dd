// Owns: one process of the binary under test: its configuration, log, admin server, end.
import Foundation
import Glibc

/// `outboxd run`, started with a configuration, and looked at as an operator does.
public final class OutboxdProcess {
  public let configurationPath: String
  public let process: ChildProcess

  /// Writes the configuration and starts `outboxd run`.
  /// - Parameter binary: nil: the one under test.
  public init(
    _ configuration: RelayConfiguration, environment: [String: String] = [:], binary: String? = nil
  ) throws {
    configurationPath = try configuration.write()
    process = try ChildProcess(
      [try binary ?? Self.binary(), "run", "--config", configurationPath], environment: environment,
      folder: TestFolder.make("outboxd"))
  }

  public static func binary() throws -> String {
    guard let path = TestTools.outboxd else {
      throw HarnessError("no outboxd: set OUTBOXD_BINARY, or swift build -c release --product outboxd")
    }
    return path
  }

  /// Runs another command of the binary to its end.
  public static func command(
    _ arguments: [String], environment: [String: String] = [:], seconds: Double = 60
  ) throws -> ChildProcess.Result {
    try ChildProcess.run([try binary()] + arguments, environment: environment, seconds: seconds)
  }

  /// `init --apply`: role, publication, slot, journal for the tables of the configuration.
  public static func initialize(_ configuration: RelayConfiguration, admin: String) throws {
    let arguments = ["init", "--config", try configuration.write(), "--apply", "--as", admin]
    let result = try command(arguments)
    guard result.status == 0 else {
      throw HarnessError("init ended with \(result.status): \(result.errors)\(result.output)")
    }
  }

  // The log.

  public struct LogLine {
    public let text: String
    public let fields: [String: String]
    public var message: String { fields["msg"] ?? "" }
    public var level: String { fields["level"] ?? "" }
  }

  public var logText: String { process.errors }

  /// Every line that is JSON, as it must be.
  public var log: [LogLine] {
    logText.split(separator: "\n").compactMap { line in
      guard let object = try? JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any] else {
        return nil
      }
      return LogLine(text: String(line), fields: object.mapValues { "\($0)" })
    }
  }

  /// The first line that satisfies the condition.
  @discardableResult
  public func waitForLog(
    _ what: String, within seconds: Double = 30, where condition: (LogLine) -> Bool
  ) throws -> LogLine {
    try eventually("log line: \(what)\n\(tail)", within: seconds) {
      if let line = log.first(where: condition) { return line }
      if let status = process.poll() {
        if let line = log.first(where: condition) { return line }
        throw HarnessError("outboxd ended with \(status) before: \(what)\n\(tail)")
      }
      return nil
    }
  }

  /// The end of the log, for a failure's text.
  public var tail: String { String(logText.suffix(3000)) }

  // The admin server.

  private var knownAddress: (host: String, port: Int)?
  public func adminAddress() throws -> (host: String, port: Int) {
    if let knownAddress { return knownAddress }
    let line = try waitForLog("admin server listening") { $0.message == "admin server listening" }
    guard let address = line.fields["address"], let colon = address.lastIndex(of: ":"),
      let port = Int(address[address.index(after: colon)...])
    else { throw HarnessError("no address in \(line.text)") }
    knownAddress = (String(address[..<colon]), port)
    return (String(address[..<colon]), port)
  }

  public func get(_ path: String) throws -> HTTPProbe.Answer {
    try HTTPProbe.get(port: try adminAddress().port, path: path)
  }

  /// Waits until `/readyz` says 200.
  public func waitUntilReady(within seconds: Double = 60) throws {
    try eventually("outboxd is ready\n\(tail)", within: seconds) { () throws -> Bool? in
      if let status = process.poll() { throw HarnessError("outboxd ended with \(status)\n\(tail)") }
      return (try? get("/readyz"))?.status == 200 ? true : nil
    }
  }

  /// Waits until `/readyz` says 503, and returns its body.
  @discardableResult
  public func waitUntilNotReady(within seconds: Double = 60, containing text: String = "") throws -> String {
    try eventually("outboxd is not ready: \(text)\n\(tail)", within: seconds) { () throws -> String? in
      if let status = process.poll() { throw HarnessError("outboxd ended with \(status)\n\(tail)") }
      guard let answer = try? get("/readyz"), answer.status == 503, text.isEmpty || answer.body.contains(text)
      else { return nil }
      return answer.body
    }
  }

  /// The sum of the samples of a metric, or the one whose labels are given too; nil when there is none.
  public func metric(_ name: String) throws -> Double? {
    let samples = try get("/metrics").body.split(separator: "\n").filter {
      $0.hasPrefix(name + " ") || $0.hasPrefix(name + "{")
    }
    let values = samples.compactMap { $0.split(separator: " ").last.flatMap { Double($0) } }
    return values.isEmpty ? nil : values.reduce(0, +)
  }

  // The process.

  /// SIGTERM, and waits for the end.
  @discardableResult
  public func terminate(within seconds: Double = 60) throws -> Int32 {
    process.signal(SIGTERM)
    return try process.wait(seconds: seconds)
  }

  /// The kernel's figure for the process, in kilobytes: `VmHWM`, `VmRSS`.
  public func memory(_ name: String) throws -> Int {
    let status = try String(contentsOfFile: "/proc/\(process.processID)/status", encoding: .utf8)
    guard let line = status.split(separator: "\n").first(where: { $0.hasPrefix(name + ":") }),
      let value = line.split(whereSeparator: { $0 == " " || $0 == "\t" }).dropFirst().first.flatMap({
        Int($0)
      })
    else { throw HarnessError("no \(name) in /proc") }
    return value
  }
}
