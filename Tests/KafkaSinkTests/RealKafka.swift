// Owns: a real Kafka for the tests of this process, ended with it however it ends.
import Foundation
import Glibc
import Synchronization
import Testing

/// One broker started by `kafka start`. The shell that started it stops it when this process is gone.
final class RealKafka: Sendable {
  struct Unavailable: Error, CustomStringConvertible { var description: String }

  /// TLS, SASL and ACLs; topics are created by themselves on the plain listener.
  static let secure = RealKafka(["--secure"])
  /// Topics are not created by themselves, and a batch is at most 20,000 bytes.
  static let strict = RealKafka([
    "--set", "auto.create.topics.enable=false", "--set", "message.max.bytes=20000",
  ])

  /// The command that starts a Kafka, if there is one.
  static let command: String? = {
    let environment = ProcessInfo.processInfo.environment["OUTBOXD_TEST_KAFKA"]
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    let candidates = [
      environment, root.appendingPathComponent("../shared/kafka/kafka").standardized.path,
      "/work/shared/kafka/kafka",
    ].compactMap { $0 }
    if let found = candidates.first(where: { FileManager.default.isExecutableFile(atPath: $0) }) {
      return found
    }
    FileHandle.standardError.write(
      Data("KafkaSinkTests: no real Kafka (OUTBOXD_TEST_KAFKA), tests against it are left out\n".utf8))
    return nil
  }()

  let folder: String
  /// What the shell has printed: one line, once the broker has started or failed.
  private let answer: Int32
  /// The shell ends Kafka when this is closed, also by the end of this process.
  private let lifeline: Int32
  private let started = Mutex<Bool?>(nil)

  private init(_ options: [String]) {
    folder = NSTemporaryDirectory() + "outboxd-kafka-\(UUID().uuidString)"
    let script = """
      command=$1; folder=$2; shift 2
      "$command" start "$folder" --heap 320m "$@" || echo failed
      read line
      "$command" kill "$folder"; rm -rf "$folder"
      """
    let input = Spawn.pipe()
    let output = Spawn.pipe()
    _ = Spawn.start(
      ["/bin/sh", "-c", script, "sh", Self.command ?? "false", folder] + options, input: input[0],
      output: output[1])
    close(input[0])
    close(output[1])
    answer = output[0]
    lifeline = input[1]
  }

  /// Waits until the broker has started. The servers of its plain listener.
  func bootstrap() throws -> String {
    let isReady = started.withLock { started in
      if let started { return started }
      var bytes = [UInt8](repeating: 0, count: 512)
      let count = read(answer, &bytes, bytes.count)
      let isReady = String(decoding: bytes.prefix(max(0, count)), as: UTF8.self).hasPrefix("127.0.0.1:")
      started = isReady
      return isReady
    }
    guard isReady else { throw Unavailable(description: "Kafka did not start in \(folder)") }
    return try String(contentsOfFile: folder + "/bootstrap", encoding: .utf8)
      .trimmingCharacters(in: .whitespacesAndNewlines)
  }

  /// The servers of a listener with `--secure`: `scram` (also PLAIN) or `mutual`.
  func bootstrap(listener: String) throws -> String {
    _ = try bootstrap()
    return try String(contentsOfFile: folder + "/bootstrap-\(listener)", encoding: .utf8)
      .trimmingCharacters(in: .whitespacesAndNewlines)
  }

  /// `kafka VERB FOLDER`, or one of Kafka's tools.
  func run(_ arguments: String...) throws { try run(arguments) }

  /// One of Kafka's tools, on this broker.
  func tool(_ arguments: [String]) throws {
    try run(["run", arguments[0], "--bootstrap-server", try bootstrap()] + arguments.dropFirst())
  }

  private func run(_ arguments: [String]) throws {
    let process = Spawn.start([Self.command ?? "/bin/false"] + arguments)
    var status: Int32 = -1
    waitpid(process, &status, 0)
    guard status == 0 else {
      throw Unavailable(description: "kafka \(arguments.joined(separator: " ")) failed")
    }
  }
}

/// Foundation's `Process` waits for grandchildren too, and a started Kafka is one.
enum Spawn {
  /// Neither end is inherited: a Kafka that held the lifeline would keep itself alive.
  static func pipe() -> [Int32] {
    var ends: [Int32] = [-1, -1]
    _ = Glibc.pipe(&ends)
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    return ends
  }

  static func start(_ arguments: [String], input: Int32? = nil, output: Int32? = nil) -> pid_t {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    for (target, source) in [(Int32(0), input), (1, output), (2, nil)] {
      if let source {
        posix_spawn_file_actions_adddup2(&actions, source, target)
      } else {
        posix_spawn_file_actions_addopen(&actions, target, "/dev/null", O_RDWR, 0)
      }
    }
    var vector = arguments.map { strdup($0) } + [nil]
    defer { for text in vector { free(text) } }
    var process: pid_t = -1
    posix_spawn(&process, arguments[0], &actions, nil, &vector, environ)
    return process
  }
}
