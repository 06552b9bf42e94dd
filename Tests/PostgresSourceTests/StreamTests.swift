// Owns: the stream and the decision against a real server.
import CSystem
import Foundation
import RelayCore
import RelayTesting
import Synchronization
import Testing

@testable import PostgresSource

@Suite(.serialized) struct StreamTests {
  static let server = Result {
    try PostgresServer(
      version: 15,
      settings: [
        "max_replication_slots": "40", "max_wal_senders": "40", "max_connections": "100",
      ])
  }

  private func database(_ files: [String] = ["01", "03", "04", "05", "06"]) throws -> LiveDatabase {
    try LiveDatabase(try Self.server.get(), files: files)
  }

  @Test func createsTheSlotAndItsRowOnceAndStreams() throws {
    let database = try database()
    let keeper = try database.keeper()
    let stream = try database.open(keeper)
    #expect(try database.sql("SELECT lsn FROM outboxd.checkpoint") == "\(stream.startLSN)")
    #expect(stream.serverVersion / 10_000 == 15)
    #expect(stream.database == database.name)
    try database.insert(3)
    let end = try stream.read(rows: 3)
    #expect(end > stream.startLSN)
    #expect(stream.relation.table == "outbox")
    #expect(stream.receivedBytes > 300)
  }

  @Test func `rows that libpq has read already do not keep the receive buffer small`() throws {
    let database = try database()
    let stream = try database.open(try database.keeper())
    #expect(socketOption(stream.descriptor, SO_RCVBUF) == 131_072)
    try database.insert(1_000)
    let deadline = MonotonicTime.now().advanced(milliseconds: 10_000)
    while outboxd_bytes_waiting(stream.descriptor) < 50_000, MonotonicTime.now() < deadline { usleep(1_000) }
    // Before the first row the stream waits for a check of the publication.
    var first: Change?
    while MonotonicTime.now() < deadline {
      first = try stream.next()
      if case .insert = first { break }
    }
    guard case .insert = first else { throw HarnessError("no row") }
    let now = MonotonicTime.now()
    try stream.report(flushed: stream.startLSN, now: now)
    for _ in 0..<10 {
      #expect(try stream.next() != nil)
      try stream.report(flushed: stream.startLSN, now: now.advanced(milliseconds: 300))
    }
    #expect(socketOption(stream.descriptor, SO_RCVBUF) > 131_072)
    while try stream.next() != nil {}
    try stream.report(flushed: stream.startLSN, now: now.advanced(milliseconds: 301))
    #expect(socketOption(stream.descriptor, SO_RCVBUF) == 131_072)
  }

  @Test func `one check of the publication serves for all tables whose shapes have come`() throws {
    let database = try database()
    for table in ["second", "third"] {
      try database.sql(
        "CREATE TABLE \(table) (LIKE outbox INCLUDING ALL); GRANT SELECT ON \(table) TO PUBLIC; "
          + "ALTER PUBLICATION outboxd ADD TABLE \(table)")
      var mapping = OutboxMapping()
      mapping.table = table
      database.mappings.append(mapping)
    }
    let keeper = try database.keeper()
    let stream = try database.open(keeper)
    try database.sql(
      ["outbox", "second", "third"].map {
        "INSERT INTO \($0) (aggregatetype, aggregateid, type, payload) VALUES ('a', '1', 't', '{}')"
      }.joined(separator: ";"))
    let deadline = MonotonicTime.now().advanced(milliseconds: 10_000)
    var before = -1
    while outboxd_bytes_waiting(stream.descriptor) > before, MonotonicTime.now() < deadline {
      before = Int(outboxd_bytes_waiting(stream.descriptor))
      usleep(50_000)
    }
    var rows = 0
    while rows < 3, MonotonicTime.now() < deadline {
      if case .insert = try stream.take() { rows += 1 }
    }
    #expect(rows == 3)
    #expect(keeper.findings.requested.load(ordering: .relaxed) == 1)
  }

  @Test func whatIsReportedIsClampedToWhatWasSeenAndNeverGoesBack() throws {
    let database = try database()
    let stream = try database.open(try database.keeper())
    try database.insert()
    let end = try stream.read(rows: 1)
    try stream.report(flushed: LSN(.max), now: .now())
    _ = try eventually("the slot is confirmed", within: 10) {
      try stream.step(LSN(.max), until: .now())
      return try database.confirmed.flatMap { $0 >= end ? $0 : nil }
    }
    let confirmed = try #require(try database.confirmed)
    let current = try #require(LSN(try database.sql("SELECT pg_current_wal_lsn()")))
    #expect(confirmed <= current)
    // The position is still valid: the next row comes.
    try database.insert()
    _ = try stream.read(rows: 1, flushed: .zero)
    #expect(try database.confirmed == confirmed)
  }

  @Test func aSecondReaderStandsBy() throws {
    let database = try database()
    let keeper = try database.keeper()
    let stream = try database.open(keeper)
    try database.insert()
    let end = try stream.read(rows: 1)
    let error = try #require(database.refusal())
    #expect(error.kind == .slotActive)
    let pid = try database.sql(
      "SELECT active_pid FROM pg_replication_slots WHERE slot_name = '\(database.name)'")
    #expect(error.message.contains(pid))
    let deadline = MonotonicTime.now().advanced(milliseconds: 5000)
    stream.finish(flushed: keeper.finish(end, deadline: deadline), deadline: deadline)
    _ = try eventually("the slot is free", within: 10) { database.refusal() == nil ? true : nil }
  }

  @Test func finishConfirmsEverything() throws {
    let database = try database()
    let stream = try database.open(try database.keeper())
    try database.insert(10)
    let end = try stream.read(rows: 10)
    stream.finish(flushed: end, deadline: MonotonicTime.now().advanced(milliseconds: 5000))
    #expect(try #require(try database.confirmed) >= end)
  }

  @Test func finishInTheMiddleOfATransactionDoesNotReadTheRest() throws {
    let database = try database()
    let stream = try database.open(try database.keeper())
    try database.insert(100_000)
    let deadline = MonotonicTime.now().advanced(milliseconds: 20_000)
    while true {
      if case .insert? = try stream.step(.zero, until: deadline) { break }
      if MonotonicTime.now() > deadline { throw HarnessError("no row") }
    }
    let before = MonotonicTime.now()
    stream.finish(flushed: stream.startLSN, deadline: before.advanced(milliseconds: 20_000))
    #expect(MonotonicTime.now() < before.advanced(milliseconds: 5000))
  }

  @Test func withoutAJournalAMissingSlotIsRefusedAndASlotIsTakenAsItIs() throws {
    let database = try database(["01", "03", "04"])
    #expect(database.refusal()?.kind == .slotMissing)
    try database.createSlot()
    let stream = try database.open()
    #expect(stream.startLSN == (try database.confirmed))
  }

  @Test func aSlotThatWasMovedDroppedOrCreatedAgainIsNoticed() throws {
    let database = try database()
    let stream = try database.open(try database.keeper())
    let start = stream.startLSN
    stream.finish(flushed: start, deadline: MonotonicTime.now().advanced(milliseconds: 5000))
    try database.insert()
    try database.sql("SELECT pg_replication_slot_advance('\(database.name)', pg_current_wal_lsn())")
    let moved = try #require(database.refusal())
    #expect(moved.kind == .slotMoved)
    #expect(moved.message.contains("\(start)"))
    try database.sql("SELECT pg_drop_replication_slot('\(database.name)')")
    #expect(database.refusal()?.kind == .slotMissing)
    try database.createSlot()
    #expect(database.refusal()?.kind == .slotMoved)
    // The remedy works.
    try database.sql("DELETE FROM outboxd.checkpoint WHERE slot = '\(database.name)'")
    #expect(database.refusal() == nil)
  }

  @Test func aSlotOfAnotherDatabaseOrPluginIsRefused() throws {
    let database = try database()
    try database.sql("SELECT pg_create_logical_replication_slot('\(database.name)', 'test_decoding')")
    #expect(database.refusal()?.kind == .slotUnsuitable)
    let other = try self.database()
    try other.createSlot()
    var settings = database.settings
    settings.slot = other.name
    database.settings = settings
    let error = try #require(database.refusal())
    #expect(error.kind == .slotUnsuitable)
    #expect(error.message.contains(other.name))
  }

  @Test func aPublicationDroppedUnderTheStreamEndsIt() throws {
    let database = try database()
    let stream = try database.open(try database.keeper())
    try database.sql("DROP PUBLICATION outboxd")
    try database.insert()
    let error = try #require(stream.failure(flushed: stream.startLSN))
    #expect(error.kind == .publicationMissing, "\(error)")
    #expect(database.refusal()?.kind == .publicationMissing || database.refusal()?.kind == .slotActive)
  }

  @Test func theWatchFindsATableTakenOutOfThePublication() throws {
    let database = try database()
    let stream = try database.open(try database.keeper(publicationInterval: 50))
    try database.sql("ALTER PUBLICATION outboxd DROP TABLE outbox")
    let error = try #require(stream.failure(flushed: stream.startLSN))
    #expect(error.kind == .publicationUnsuitable, "\(error)")
  }

  @Test func theWatchFindsAPublicationCreatedAgain() throws {
    let database = try database()
    let stream = try database.open(try database.keeper(publicationInterval: 50))
    try database.sql("BEGIN; DROP PUBLICATION outboxd; \(try LiveDatabase.file("04")); COMMIT;")
    let error = try #require(stream.failure(flushed: stream.startLSN))
    #expect(error.kind == .publicationUnsuitable)
    #expect(error.message.contains("created again"))
  }

  @Test func aTerminatedWalsenderMeansReconnect() throws {
    let database = try database()
    let stream = try database.open(try database.keeper())
    try database.sql(
      "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '\(database.name)'"
    )
    let error = try #require(stream.failure(flushed: stream.startLSN))
    #expect(error.kind == .sourceUnavailable)
    #expect(error.code == "57P01")
  }

  @Test func theConnectionStaysWhileNothingIsRead() throws {
    let database = try database()
    database.settings.conninfo += " options='-c wal_sender_timeout=1500ms'"
    let stream = try database.open(try database.keeper())
    try database.insert(200, payload: "jsonb_build_object('x', repeat('y', 100000))")
    // As with a full queue: reports go out by timer, and no message is read.
    let end = MonotonicTime.now().advanced(milliseconds: 4500)
    while MonotonicTime.now() < end {
      try stream.report(flushed: .zero, now: .now())
      let wake = min(end, stream.reportTime)
      var entry = pollfd(fd: -1, events: 0, revents: 0)
      poll(&entry, 1, Int32(MonotonicTime.now().milliseconds(until: wake, limit: 500)))
    }
    _ = try stream.read(rows: 200)
  }

  @Test func aHugeRowArrivesWhole() throws {
    let database = try database()
    try database.sql("ALTER TABLE outbox DROP CONSTRAINT outbox_payload_check")
    let stream = try database.open(try database.keeper())
    try database.insert(payload: "jsonb_build_object('x', repeat('y', 60000000))")
    _ = try stream.read(rows: 1)
    #expect(stream.receivedBytes > 60_000_000)
  }

  @Test func aSilentServerIsAskedAndThenLeft() throws {
    let database = try database()
    database.settings.conninfo += " options='-c wal_sender_timeout=1000ms'"
    let stream = try database.open(try database.keeper())
    stream.answerLimit = 1000
    let pid = try #require(
      pid_t(
        try database.sql(
          "SELECT active_pid FROM pg_replication_slots WHERE slot_name = '\(database.name)'")))
    kill(pid, SIGSTOP)
    defer { kill(pid, SIGCONT) }
    let error = try #require(stream.failure(flushed: stream.startLSN))
    #expect(error.kind == .sourceUnavailable)
    #expect(error.message.contains("has sent nothing"), "\(error)")
  }

  @Test func anIdleServerThatAnswersIsNotLeft() throws {
    let database = try database()
    database.settings.conninfo += " options='-c wal_sender_timeout=600ms'"
    let stream = try database.open(try database.keeper())
    stream.answerLimit = 2000
    #expect(stream.failure(flushed: stream.startLSN, seconds: 5) == nil)
  }

  @Test func refusalsOfTheServerAreToldFromItsAbsence() throws {
    let database = try database()
    let server = try Self.server.get()
    var settings = database.settings
    func kind(_ conninfo: String) -> RelayError.Kind? {
      database.settings.conninfo = conninfo
      return database.refusal()?.kind
    }
    #expect(kind(server.conninfo(database.name, user: "nobody_here")) == .sourceDenied)
    #expect(kind(server.conninfo("nothing_here")) == .sourceDenied)
    try database.sql("CREATE ROLE \(database.name)_plain LOGIN")
    #expect(kind(server.conninfo(database.name, user: "\(database.name)_plain")) == .sourceDenied)
    #expect(kind("host=127.0.0.1 port=\(try freePort()) user=outboxd dbname=x") == .sourceUnavailable)
    #expect(kind("host=127.0.0.1 prot=1") == .configurationInvalid)
    #expect(kind("postgresql://outboxd@127.0.0.1:\(server.port)/\(database.name)") == nil)
    settings.passwordFile = "/nonexistent/password"
    database.settings = settings
    let error = try #require(database.refusal())
    #expect(error.kind == .sourceDenied && error.message.contains("/nonexistent/password"))
  }

  @Test func aStopEndsAnAttemptToConnect() throws {
    // A server that accepts and says nothing.
    let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(listener) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        _ = bind(listener, $0, length)
        _ = getsockname(listener, $0, &length)
      }
    }
    listen(listener, 1)
    var settings = PostgresSettings()
    let port = UInt16(bigEndian: address.sin_port)
    settings.conninfo = "host=127.0.0.1 port=\(port) user=x sslmode=disable gssencmode=disable"
    let stop = StopSignal()
    let thread = try RelayThread(name: "stopper") { stop.request() }
    do throws(RelayError) {
      _ = try SQLConnection(settings, stop: stop)
      Issue.record("connected")
    } catch {
      #expect(error.kind == .interrupted)
    }
    thread.join()
    settings.conninfo += " connect_timeout=2"
    do throws(RelayError) {
      _ = try SQLConnection(settings, stop: StopSignal())
      Issue.record("connected")
    } catch {
      #expect(error.kind == .sourceUnavailable && error.message.contains("timeout"))
    }
  }

  @Test func aLostSlotIsRefused() throws {
    let server = try PostgresServer(
      version: 15,
      settings: ["max_slot_wal_keep_size": "'16MB'", "min_wal_size": "'32MB'", "max_wal_size": "'32MB'"])
    let database = try LiveDatabase(server)
    let stream = try database.open(try database.keeper())
    stream.finish(flushed: stream.startLSN, deadline: MonotonicTime.now().advanced(milliseconds: 5000))
    for _ in 0..<5 { try database.sql("SELECT pg_switch_wal(); CREATE TABLE x(); DROP TABLE x; CHECKPOINT;") }
    let error = try #require(database.refusal())
    #expect(error.kind == .slotLost, "\(error)")
    try server.stop(.immediate)
  }

  @Test(arguments: PostgresServer.versions)
  func everyVersionStreamsAndNoticesAPublicationThatIsGone(version: Int) throws {
    let server = try PostgresServer(version: version)
    let database = try LiveDatabase(server)
    let keeper = try database.keeper()
    var stream = try database.open(keeper)
    try database.insert(3)
    let end = try stream.read(rows: 3)
    let deadline = MonotonicTime.now().advanced(milliseconds: 10_000)
    stream.finish(flushed: keeper.finish(end, deadline: deadline), deadline: deadline)
    #expect(try #require(try database.confirmed) >= end)
    stream = try database.open(keeper, resume: stream.checkpoint(end))
    #expect(stream.startLSN == end)
    // 18 only warns, and leaves the rows out.
    try database.sql(
      "DROP PUBLICATION outboxd; INSERT INTO outbox (aggregatetype, aggregateid, type) "
        + "VALUES ('a', 'b', 'c')")
    let error = try #require(stream.failure(flushed: end))
    #expect(error.kind == .publicationMissing, "\(error)")
    try server.stop(.immediate)
  }

  @Test func anEncryptedStreamIsReadToItsEnd() throws {
    let folder = TestFolder.make("certificate")
    try ChildProcess.check([
      "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
      "-keyout", "\(folder)/key", "-out", "\(folder)/crt",
    ])
    let server = try Self.server.get()
    try server.write(try String(contentsOfFile: "\(folder)/key", encoding: .utf8), to: "server.key")
    try server.write(try String(contentsOfFile: "\(folder)/crt", encoding: .utf8), to: "server.crt")
    try server.sql("ALTER SYSTEM SET ssl = on")
    try server.reload()
    let database = try database()
    database.settings.conninfo += " sslmode=require"
    try eventually("TLS is on", within: 10) { database.refusal() == nil }
    let stream = try database.open(try database.keeper())
    for size in [1, 100, 3000, 8150, 16_300, 40_000] {
      try database.insert(300, payload: "jsonb_build_object('x', repeat('y', \(size)))")
    }
    _ = try stream.read(rows: 1800)
    // One at a time: whatever a record holds must come without another one following.
    for _ in 0..<20 {
      try database.insert()
      _ = try stream.read(rows: 1, seconds: 5)
    }
  }
}
