// Owns: the demo: what is started in which order, and ended in which.
// Must not know: how a server is started, what the services write, how an event is shown.
import CSystem
import Glibc
import KafkaSink
import PostgresSource
import RelayCore

/// Everything that the demo has started. Used on the main thread.
final class Demo {
  private let limit: Int?
  private let givenPostgres: String?
  private let givenBrokers: String?
  private let view: DemoView
  private let workspace: String
  private let signals: DemoSignals
  private let names: DemoNames
  private let ledger = DemoLedger()
  /// Stops the writer; the servers go on until its events have arrived.
  private let writerStop = StopSignal()

  private var postgres: DemoPostgres?
  private var broker: DemoProcess?
  /// The broker ends when this is closed.
  private var brokerLifeline: Int32 = -1
  private var relay: DemoProcess?
  private var consumer: KafkaConsumer?
  private var writer: RelayThread?
  private var settings = PostgresSettings()
  private var hasTables = false
  private var bootstrapServers = ""

  private var relayLog: String { workspace + "/relay.log" }

  /// - Throws: `failed` where there is no folder for it.
  init(limit: Int?, postgres: String?, brokers: String?, environment: [String: String]) throws(RelayError) {
    signals = try DemoSignals()
    self.limit = limit
    givenPostgres = postgres
    givenBrokers = brokers
    names = DemoNames(
      schemaPrefix: postgres == nil ? "" : "outboxd_demo_",
      topicPrefix: brokers == nil ? "" : "outboxd-demo.",
      sourcePrefix: brokers == nil ? "" : "/demo-" + String(UInt32.random(in: 0...0xFF_FFFF), radix: 16))
    view = DemoView(
      isStyled: Terminal.wantsStyle(STDOUT_FILENO, environment: environment),
      topicWidth: names.topics.map(\.count).max() ?? 0)
    var template = Array(((environment["TMPDIR"] ?? "/tmp") + "/outboxd-demo-XXXXXX").utf8CString)
    guard let path = mkdtemp(&template) else {
      throw RelayError(.failed, "no temporary folder: \(String(cString: strerror(errno)))")
    }
    // SAFETY: mkdtemp returns the template, NUL-terminated.
    workspace = String(cString: path)
    // Postgres runs as another user where this is root.
    if geteuid() == 0 { chmod(workspace, 0o711) }
  }

  // MARK: Start

  func start() throws(RelayError) {
    try startBroker()
    try startPostgres()
    try prepareTables()
    let port = try DemoPort.free()
    let configuration = workspace + "/outboxd.yaml"
    try writeConfiguration(configuration, port: port)
    consumer = try makeConsumer()
    view.progress("starting outboxd run --config \(configuration)")
    relay = try DemoProcess(
      name: "outboxd run", command: [Executable.this, "run", "--config", configuration], folder: workspace,
      logFile: relayLog)
    try awaitRelay(port)
    view.whereToLook(
      brokers: bootstrapServers, topics: names.topics, port: port, conninfo: settings.conninfo,
      configuration: configuration, relayLog: relayLog, isEndless: limit == nil)
    let writer = DemoWriter(
      settings: settings, names: names, ledger: ledger, limit: limit ?? .max, stop: writerStop)
    self.writer = try RelayThread(name: "writer") { writer.run() }
  }

  private func startBroker() throws(RelayError) {
    if let givenBrokers {
      bootstrapServers = givenBrokers
      return
    }
    view.progress("starting an embedded Kafka (librdkafka's mock cluster)")
    let input = try DemoPipe()
    let output = try DemoPipe()
    defer { close(output.reading) }
    brokerLifeline = input.writing
    broker = try DemoProcess(
      name: "the mock broker", command: [Executable.this, "mock-broker"], folder: workspace,
      input: input.reading, output: output.writing, logFile: workspace + "/kafka.log")
    close(input.reading)
    close(output.writing)
    guard let line = output.readLine(milliseconds: 10_000) else {
      throw broker?.failure("did not start") ?? RelayError(.failed, "the mock broker did not start")
    }
    bootstrapServers = line
  }

  private func startPostgres() throws(RelayError) {
    if let givenPostgres {
      settings.conninfo = givenPostgres
    } else {
      view.progress("starting a throw-away Postgres in \(workspace)")
      let server = try DemoPostgres(workspace: workspace)
      postgres = server
      try server.awaitReady(stop: signals.stop) { signals.look() }
      settings.conninfo = server.conninfo(database: "postgres")
      try connect().query("CREATE DATABASE shop")
      settings.conninfo = server.conninfo(database: "shop")
    }
    settings.slot = DemoNames.slot
    settings.publication = DemoNames.publication
    // In somebody else's database nothing is left behind, so there is no journal.
    settings.journal = givenPostgres == nil ? .required : .off
  }

  private func connect() throws(RelayError) -> SQLConnection {
    try signals.check()
    return try SQLConnection(settings, applicationName: "outboxd demo", stop: signals.stop)
  }

  private func prepareTables() throws(RelayError) {
    view.progress("creating the outbox tables of \(DemoNames.services.joined(separator: ", "))")
    let connection = try connect()
    if givenPostgres != nil { try requireSuitable(connection) }
    hasTables = true
    for statement in DemoServices.tables(names) { try connection.query(statement) }
    let role = try connection.query("SELECT current_user::text AS role")[0, "role"] ?? "postgres"
    let mappings = DemoServices.mappings(names)
    let setup = SetupSQL.statements(
      settings: settings, mappings: mappings, role: givenPostgres == nil ? "outboxd" : role)
    for statement in setup { try connection.query(statement.sql) }
  }

  private func requireSuitable(_ connection: SQLConnection) throws(RelayError) {
    let level = try connection.query("SHOW wal_level")[0, "wal_level"] ?? ""
    guard level == "logical" else {
      throw RelayError(
        .serverUnsuitable, "wal_level of this Postgres is \(level), and must be logical",
        remedy: "ALTER SYSTEM SET wal_level = logical; then restart Postgres.")
    }
    let found = try connection.query(
      "SELECT nspname FROM pg_namespace WHERE nspname = ANY($1::name[]) UNION ALL "
        + "SELECT slot_name FROM pg_replication_slots WHERE slot_name = $2",
      ["{\(names.schemas.joined(separator: ","))}", DemoNames.slot])
    guard found.rows.isEmpty else {
      let list = found.rows.compactMap { $0.first ?? nil }.joined(separator: ", ")
      throw RelayError(
        .failed, "\(list) exists already: another demo runs in this Postgres, or was killed",
        remedy: DemoServices.removal(names).map { "\($0);" }.joined(separator: " "))
    }
  }

  private func writeConfiguration(_ path: String, port: UInt16) throws(RelayError) {
    let conninfo = postgres?.conninfo(database: "shop", user: "outboxd") ?? settings.conninfo
    let text = DemoServices.configuration(
      .init(conninfo: conninfo, brokers: bootstrapServers, journal: settings.journal, adminPort: port), names)
    // A given conninfo may hold a password.
    let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    let bytes = Array(text.utf8)
    // SAFETY: write(2) reads the array's bytes.
    guard descriptor >= 0, write(descriptor, bytes, bytes.count) == bytes.count else {
      throw RelayError(.failed, "could not write \(path): \(String(cString: strerror(errno)))")
    }
    close(descriptor)
  }

  private func makeConsumer() throws(RelayError) -> KafkaConsumer {
    var kafka = KafkaSettings()
    kafka.properties = [
      "bootstrap.servers": bootstrapServers, "client.id": "outboxd-demo", "allow.auto.create.topics": "true",
    ]
    // The mock cluster answers a fetch only when its time is up.
    if givenBrokers == nil { kafka.properties["fetch.wait.max.ms"] = "5" }
    let topics = Set(names.topics)
    let consumer = try KafkaConsumer(settings: kafka, start: .end, refreshMilliseconds: 500) {
      topics.contains($0)
    }
    let deadline = MonotonicTime.now().advanced(milliseconds: 10_000)
    while !consumer.lookUp(names.topics, milliseconds: 500) {
      try requireServers()
      guard MonotonicTime.now() < deadline else { throw unreadable(consumer.trouble) }
    }
    return consumer
  }

  private func unreadable(_ trouble: String?) -> RelayError {
    let create = names.topics
      .map { "kafka-topics.sh --bootstrap-server \(bootstrapServers) --create --topic \($0)" }
      .joined(separator: "; ")
    return RelayError(
      .failed,
      "the demo's topics could not be read at \(bootstrapServers): \(trouble ?? "they do not exist")",
      remedy: "Check --brokers. If the brokers do not create topics themselves: \(create)")
  }

  private func awaitRelay(_ port: UInt16) throws(RelayError) {
    let deadline = MonotonicTime.now().advanced(milliseconds: 30_000)
    while !DemoPort.answersReady(port) {
      try requireServers()
      if MonotonicTime.now() >= deadline {
        throw relay?.failure("was not ready within 30 s") ?? RelayError(.failed, "no relay")
      }
      signals.stop.wait(milliseconds: 50)
    }
  }

  // MARK: Show

  /// - Throws: `interrupted` at Ctrl-C, `failed` where a server has ended.
  private func requireServers() throws(RelayError) {
    try signals.check()
    try relay?.requireAlive()
    try broker?.requireAlive()
    try postgres?.requireAlive()
    if let failure = ledger.failure { throw failure }
  }

  /// Shows events until there are enough, or Ctrl-C.
  func show() throws(RelayError) {
    view.heading()
    while ledger.counts.arrived < limit ?? .max {
      try requireServers()
      showNext(milliseconds: 100)
    }
  }

  private func showNext(milliseconds: Int) {
    guard let record = consumer?.next(milliseconds: milliseconds) else { return }
    let event = DemoEvent(record)
    if let latency = ledger.arrived(event.id) { view.show(event, record, microseconds: latency) }
  }

  // MARK: End

  /// Ends everything in order; a second Ctrl-C ends it at once. What it returns went wrong on the way.
  func end(isFailed: Bool) -> RelayError? {
    signals.forgive()
    writerStop.request()
    writer?.join()
    if !isFailed || signals.wasInterrupted { catchUp() }
    let failure = endRelay()
    consumer = nil
    if givenPostgres != nil, hasTables { removeTables() }
    postgres?.end()
    if brokerLifeline >= 0 { close(brokerLifeline) }
    broker?.end(0, milliseconds: 3000)
    removeWorkspace()
    if failure == nil, relay != nil, !isFailed || signals.wasInterrupted { view.closing(ledger.counts) }
    return failure ?? invented()
  }

  /// Waits for what was written and has not arrived.
  private func catchUp() {
    let deadline = MonotonicTime.now().advanced(milliseconds: 5000)
    while ledger.counts.arrived < ledger.counts.written, MonotonicTime.now() < deadline,
      relay?.exitCode == nil
    {
      signals.look()
      if signals.stop.isRequested { return }
      showNext(milliseconds: 50)
    }
  }

  private func endRelay() -> RelayError? {
    guard let relay, relay.exitCode == nil else { return nil }
    relay.signal(SIGTERM)
    let deadline = MonotonicTime.now().advanced(milliseconds: 30_000)
    while !relay.waitForEnd(milliseconds: 50) {
      signals.look()
      if signals.stop.isRequested || MonotonicTime.now() >= deadline {
        relay.end(SIGKILL, milliseconds: 2000)
        return RelayError(.interrupted, "the demo was ended immediately")
      }
    }
    return relay.exitCode == 0 ? nil : relay.failure("ended with exit code \(relay.exitCode ?? -1)")
  }

  private func invented() -> RelayError? {
    let counts = ledger.counts
    guard counts.invented > 0 else { return nil }
    return RelayError(.failed, "\(counts.invented) events of rolled-back transactions arrived")
  }

  private func removeTables() {
    do throws(RelayError) {
      let connection = try SQLConnection(settings, applicationName: "outboxd demo", stop: StopSignal())
      for statement in DemoServices.removal(names) { try connection.query(statement) }
    } catch {
      Terminal.printError("outboxd: the demo's tables could not be removed: \(error.message)\n")
    }
  }

  private func removeWorkspace() {
    guard let program = Executable.find("rm") else { return }
    let removal = try? DemoProcess(
      name: "rm", command: [program, "-rf", workspace], folder: "/", logFile: "/dev/null")
    _ = removal?.waitForEnd(milliseconds: 30_000)
  }
}
