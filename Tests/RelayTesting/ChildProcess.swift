// Owns: programs that a test starts: their arguments, output, end.
// Must not know: which program it is.
import CSystem
import Foundation
import Glibc
import Synchronization

/// A problem of the test's own machinery.
public struct HarnessError: Error, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}

/// A running program in a session of its own. It dies with the test process, see `Reaper`.
public final class ChildProcess {
  public struct Result {
    /// The exit code, or the signal's number as a negative one.
    public let status: Int32
    public let output: String
    public let errors: String
  }

  public let name: String
  public let processID: Int32
  /// Files that hold what the program wrote.
  public let outputPath: String
  public let errorPath: String
  private var end: Int32?
  /// Keeps the program's standard input open as long as this object lives.
  private let inputDescriptor: Int32?

  /// Standard input: nothing, a file's content, or a pipe that stays open.
  public enum Input {
    case nothing
    case text(String)
    case open
  }

  public init(
    _ command: [String], input: Input = .nothing, environment: [String: String] = [:],
    folder: String = TestFolder.make("process")
  ) throws {
    // It must be there before the first program, which would inherit its pipe.
    let reaper = Reaper.shared
    let program = try Self.find(command[0])
    name = (program as NSString).lastPathComponent
    let stem = "\(folder)/\(name).\(Self.nextNumber())"
    outputPath = stem + ".out"
    errorPath = stem + ".err"
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    var inputPath = "/dev/null"
    var pipeEnds: [Int32] = [-1, -1]
    switch input {
    case .nothing: break
    case .text(let text):
      inputPath = stem + ".in"
      try Data(text.utf8).write(to: URL(fileURLWithPath: inputPath))
    case .open:
      guard makePipe(&pipeEnds) else { throw HarnessError("no pipe") }
    }
    if pipeEnds[0] >= 0 {
      posix_spawn_file_actions_adddup2(&actions, pipeEnds[0], 0)
    } else {
      posix_spawn_file_actions_addopen(&actions, 0, inputPath, O_RDONLY, 0)
    }
    let flags = O_WRONLY | O_CREAT | O_TRUNC | O_APPEND
    posix_spawn_file_actions_addopen(&actions, 1, outputPath, flags, 0o644)
    posix_spawn_file_actions_addopen(&actions, 2, errorPath, flags, 0o644)
    inputDescriptor = pipeEnds[1] >= 0 ? pipeEnds[1] : nil
    processID = try Self.spawn(program, command, environment, &actions)
    if pipeEnds[0] >= 0 { close(pipeEnds[0]) }
    reaper.tell("pid \(processID)")
  }

  deinit {
    if let inputDescriptor { close(inputDescriptor) }
    if end == nil {
      signal(SIGKILL)
      var status: Int32 = 0
      waitpid(processID, &status, 0)
      Reaper.shared.tell("gone \(processID)")
    }
  }

  private static let starting = Mutex(())

  /// Until it has closed them a program that is being started has all sockets of this process.
  public static func whileNothingStarts<Value>(_ body: () -> Value) -> Value {
    starting.withLock { _ in body() }
  }

  /// Starts a program in a new session, with no signal blocked or ignored.
  static func spawn(
    _ program: String, _ command: [String], _ environment: [String: String],
    _ actions: inout posix_spawn_file_actions_t
  ) throws -> Int32 {
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    var all = sigset_t()
    sigemptyset(&none)
    sigfillset(&all)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setsigdefault(&attributes, &all)
    // 0x80 is POSIX_SPAWN_SETSID.
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | 0x80))
    // What steers the tests is none of the program's business. outboxd warns of variables that it does not know, and a
    // library that `Tests/run` preloads would be in all that is measured.
    let steering = ["OUTBOXD_", "LD_PRELOAD", "_STDBUF_", "SWIFT_BACKTRACE"]
    let inherited = ProcessInfo.processInfo.environment.filter { variable in
      !steering.contains { variable.key.hasPrefix($0) }
    }
    let merged = inherited.merging(environment) { $1 }
    var arguments: [UnsafeMutablePointer<CChar>?] = command.map { strdup($0) } + [nil]
    var variables: [UnsafeMutablePointer<CChar>?] = merged.map { strdup("\($0)=\($1)") } + [nil]
    defer { (arguments + variables).forEach { free($0) } }
    // The kernel closes what is close-on-exec only after it has let this process go on.
    posix_spawn_file_actions_addclosefrom_np(&actions, 3)
    var processID: Int32 = 0
    let failure = whileNothingStarts {
      posix_spawn(&processID, program, &actions, &attributes, &arguments, &variables)
    }
    guard failure == 0 else {
      throw HarnessError("\(program) cannot be started: \(String(cString: strerror(failure)))")
    }
    return processID
  }

  /// Writes to the standard input of a program that was started with `.open`.
  public func write(_ text: String) throws {
    guard let inputDescriptor else { throw HarnessError("\(name) has no open input") }
    let bytes = Array(text.utf8)
    guard Glibc.write(inputDescriptor, bytes, bytes.count) == bytes.count else {
      throw HarnessError("\(name) does not read its input")
    }
  }

  public var isRunning: Bool { poll() == nil }

  /// The exit code, or the signal's number as a negative one; nil while it runs.
  public func poll() -> Int32? {
    if let end { return end }
    var status: Int32 = 0
    guard waitpid(processID, &status, WNOHANG) == processID else { return nil }
    let signalNumber = status & 0x7F
    let result = signalNumber == 0 ? (status >> 8) & 0xFF : -signalNumber
    end = result
    Reaper.shared.tell("gone \(processID)")
    return result
  }

  /// Waits for the end. Throws when it does not come within `seconds`.
  @discardableResult
  public func wait(seconds: Double) throws -> Int32 {
    try eventually("\(name) ends", within: seconds) { poll() }
  }

  public func signal(_ number: Int32) {
    if end == nil { Glibc.kill(processID, number) }
  }

  /// SIGKILL to the program and everything in its session's process group, and waits for the end.
  public func kill() {
    guard end == nil else { return }
    Glibc.kill(-processID, SIGKILL)
    _ = try? wait(seconds: 30)
  }

  public var output: String { Self.text(outputPath) }
  public var errors: String { Self.text(errorPath) }

  private static func text(_ path: String) -> String {
    guard let data = FileManager.default.contents(atPath: path) else { return "" }
    return String(decoding: data, as: UTF8.self)
  }

  /// Runs a program to its end.
  @discardableResult
  public static func run(
    _ command: [String], input: Input = .nothing, environment: [String: String] = [:], seconds: Double = 120
  ) throws -> Result {
    let folder = TestFolder.make("run")
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let process = try ChildProcess(command, input: input, environment: environment, folder: folder)
    let status = try process.wait(seconds: seconds)
    return Result(status: status, output: process.output, errors: process.errors)
  }

  /// The same, and throws when it ends with anything but 0.
  @discardableResult
  public static func check(
    _ command: [String], input: Input = .nothing, environment: [String: String] = [:], seconds: Double = 120
  ) throws -> String {
    let result = try run(command, input: input, environment: environment, seconds: seconds)
    guard result.status == 0 else {
      throw HarnessError(
        "\(command.joined(separator: " ")) ended with \(result.status): \(result.errors)\(result.output)")
    }
    return result.output
  }

  /// The program's path by PATH.
  public static func find(_ program: String) throws -> String {
    if program.contains("/") { return program }
    let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin"
    for folder in path.split(separator: ":") {
      let candidate = "\(folder)/\(program)"
      if access(candidate, X_OK) == 0 { return candidate }
    }
    throw HarnessError("\(program) is not in PATH")
  }

  private static let counter = Counter()
  static func nextNumber() -> Int { counter.next() }
}
