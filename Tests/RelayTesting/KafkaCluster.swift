// Owns: the Kafka of a test: a real one by a control program, a user's own, or outboxd's embedded broker.
import Foundation
import Glibc

/// Brokers to publish to.
public final class KafkaCluster: Sendable {
  /// Starts and stops real brokers; nil where there is none, or no Java.
  public static let program: String? = {
    let named = ProcessInfo.processInfo.environment["OUTBOXD_TEST_KAFKA"].flatMap { $0.isEmpty ? nil : $0 }
    let path = named ?? "\(TestTools.repository)/../shared/kafka/kafka"
    // OUTBOXD_TEST_KAFKA=none does without.
    guard path != "none", access(path, X_OK) == 0, (try? ChildProcess.find("java")) != nil else { return nil }
    return path
  }()

  private static let ownBrokers = ProcessInfo.processInfo.environment["OUTBOXD_TEST_BROKERS"].flatMap {
    $0.isEmpty ? nil : $0
  }

  /// True where a test can start, stop, kill and freeze brokers.
  public static var canBeControlled: Bool { program != nil }
  /// True where deliveries go to a real Kafka.
  public static var isReal: Bool { program != nil || ownBrokers != nil }

  /// One for all tests that only publish. Topics are created by themselves, with 4 partitions.
  public static func shared() throws -> KafkaCluster { try sharedResult.get() }
  private static let sharedResult = Result {
    if let ownBrokers {
      TestTools.say("Kafka: yours, at \(ownBrokers)")
      return KafkaCluster(folder: nil, bootstrap: ownBrokers)
    }
    if program != nil {
      TestTools.say("Kafka: a real one")
      return try KafkaCluster(nodes: 1)
    }
    TestTools.say(
      "Kafka: the embedded broker only, as there is no real one (OUTBOXD_TEST_KAFKA, OUTBOXD_TEST_BROKERS)")
    return KafkaCluster(folder: nil, bootstrap: try embeddedBroker())
  }

  /// Nil for brokers that the test cannot control.
  public let folder: String?
  public let bootstrap: String

  private init(folder: String?, bootstrap: String) {
    self.folder = folder
    self.bootstrap = bootstrap
  }

  /// Starts a real cluster.
  public init(nodes: Int, secure: Bool = false, settings: [String: String] = [:], heap: String = "400m")
    throws
  {
    guard let program = Self.program else { throw HarnessError("no program that starts a Kafka") }
    let folder = TestFolder.make("kafka")
    Reaper.shared.tell("kafka \(folder)")
    var command = [program, "start", folder, "--nodes", "\(nodes)", "--heap", heap]
    if secure { command.append("--secure") }
    for (key, value) in settings { command += ["--set", "\(key)=\(value)"] }
    let output = try ChildProcess.check(command, seconds: 180)
    self.folder = folder
    bootstrap = output.trimmingCharacters(in: .whitespacesAndNewlines)
  }

  deinit { if folder != nil { try? control("kill") } }

  /// `stop`, `kill`, `pause`, `resume`, of all nodes or of one.
  public func control(_ verb: String, node: Int? = nil) throws {
    guard let folder, let program = Self.program else {
      throw HarnessError("this Kafka cannot be controlled")
    }
    try ChildProcess.check([program, verb, folder] + (node.map { ["\($0)"] } ?? []), seconds: 180)
  }

  /// Starts all nodes again, or one of them.
  public func start(node: Int? = nil) throws {
    guard let node else { return try control("start") }
    try control("start-node", node: node)
  }

  /// One of Kafka's own tools.
  @discardableResult
  public func tool(_ arguments: [String]) throws -> String {
    guard let program = Self.program else { throw HarnessError("no Kafka tools") }
    let command = [program, "run", arguments[0], "--bootstrap-server", bootstrap] + arguments.dropFirst()
    return try ChildProcess.check(command)
  }

  /// A file of the cluster's folder: `bootstrap-scram`, `tls/ca.crt` …
  public func path(_ file: String) -> String { "\(folder ?? "")/\(file)" }
  public func content(_ file: String) throws -> String {
    try String(contentsOfFile: path(file), encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)
  }

  // The embedded broker lives as long as its standard input is open: to the end of the test process.
  private static func embeddedBroker() throws -> String {
    guard let outboxd = TestTools.outboxd else { throw HarnessError("no outboxd: set OUTBOXD_BINARY") }
    let process = try ChildProcess([outboxd, "mock-broker"], input: .open)
    _ = Unmanaged.passRetained(process)
    return try eventually("the embedded broker says where it is: \(process.errors)", within: 30) {
      process.output.split(separator: "\n").first.map(String.init)
    }
  }
}
