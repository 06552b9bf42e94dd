// Owns: the Postgres and the Kafka of a run, the programs that are measured, and their ends.
// Must not know: what is measured.
import Glibc
import RelayTesting

final class Servers {
  let postgres: PostgresServer
  let kafka: KafkaCluster
  let topics: Topics
  let database: Database
  let outboxd: String
  let floor: String
  /// An outboxd to compare with. Nil: none.
  let reference: String?
  /// The broker's process, where this run has started it.
  let brokerID: pid_t?

  private var prefixes = 0

  init() throws {
    outboxd = try Self.program("outboxd", variable: "OUTBOXD_BINARY")
    floor = try Self.program("outboxd-bench-floor", variable: "OUTBOXD_BENCH_FLOOR")
    reference = getenv("OUTBOXD_BENCH_REFERENCE").map { String(cString: $0) }
    // OutboxdProcess starts the same one.
    setenv("OUTBOXD_BINARY", outboxd, 1)
    let oneHour = "1h"
    postgres = try PostgresServer(settings: [
      "shared_buffers": "512MB", "fsync": "off", "max_wal_size": "32GB", "checkpoint_timeout": oneHour,
      "autovacuum": "off", "track_commit_timestamp": "off",
    ])
    kafka =
      KafkaCluster.canBeControlled
      ? try KafkaCluster(nodes: 1, settings: ["log.segment.delete.delay.ms": "1000"], heap: "512m")
      : try KafkaCluster.shared()
    topics = try Topics(bootstrap: kafka.bootstrap, isManaged: KafkaCluster.isReal)
    database = try Database(postgres.adminConninfo())
    let file = ["node1/pid", "node0/pid"].lazy.compactMap { [kafka] in ProcessUsage.content(kafka.path($0)) }
    brokerID = kafka.folder == nil ? nil : file.first.flatMap { text in pid_t(text.prefix { $0.isNumber }) }
  }

  /// What stands in the head of the report.
  var kafkaName: String {
    KafkaCluster.isReal
      ? "Apache Kafka, one broker" : "embedded broker (librdkafka's mock), no real Kafka here"
  }

  /// Over TCP, as a relay on another machine would.
  func conninfo(user: String = "postgres") -> String { postgres.conninfo(user: user) }

  /// Kafka answers before topics are made and deleted: the work itself, some milliseconds of CPU for each, comes
  /// after. Waits until the broker has done it, a minute at most.
  func awaitCalmBroker() {
    guard let brokerID else { return }
    let interval = 0.25
    var calm = 0
    var before = ProcessUsage.cpuSeconds(brokerID) ?? 0
    for _ in 0..<240 where calm < 2 {
      usleep(UInt32(interval * 1e6))
      let now = ProcessUsage.cpuSeconds(brokerID) ?? 0
      calm = now - before < interval * 0.2 ? calm + 1 : 0
      before = now
    }
  }

  /// The beginning of topic names that nobody else has.
  func nextPrefix() -> String {
    prefixes += 1
    return "bench-\(getpid())-\(prefixes)."
  }

  /// The folder of this program, where the build has put the others.
  private static func program(_ name: String, variable: String) throws -> String {
    if let path = getenv(variable).map({ String(cString: $0) }), !path.isEmpty { return path }
    var buffer = [UInt8](repeating: 0, count: 4096)
    let count = readlink("/proc/self/exe", &buffer, buffer.count)
    let own = String(decoding: buffer.prefix(max(0, count)), as: UTF8.self)
    let folder = own.split(separator: "/").dropLast().map { "/" + $0 }.joined()
    let path = folder + "/" + name
    guard access(path, X_OK) == 0 else {
      throw HarnessError("no \(path): run swift build -c release --product \(name), or set \(variable)")
    }
    if folder.hasSuffix("/debug") {
      throw HarnessError(
        "this is a debug build, whose figures mean nothing: swift run -c release outboxd-bench, or set "
          + "\(variable) to a release build")
    }
    return path
  }
}

/// The producer's settings of the floor and of the sink's limit: those of Sources/KafkaSink/KafkaProperties.swift, with
/// the queue that Sources/KafkaSink/InFlightWindow.swift leaves to a Kafka on the same machine.
enum ProducerSettings {
  static func arguments(bootstrap: String) -> [String] {
    [
      "bootstrap.servers=\(bootstrap)", "enable.idempotence=true", "enable.gapless.guarantee=true",
      "acks=all",
      "message.timeout.ms=0", "partitioner=murmur2_random", "compression.codec=lz4", "linger.ms=3",
      "max.in.flight.requests.per.connection=1",
      "queue.buffering.max.messages=2048", "queue.buffering.max.kbytes=16384", "socket.nagle.disable=true",
    ].flatMap { ["-X", $0] }
  }

  /// What outboxd, which is started bare, gives itself: Sources/outboxd/Session/AllocatorTuning.swift.
  static let environment = [
    "GLIBC_TUNABLES":
      "glibc.malloc.tcache_count=8192:glibc.malloc.trim_threshold=4194304:glibc.malloc.mmap_threshold=4194304"
  ]
}
