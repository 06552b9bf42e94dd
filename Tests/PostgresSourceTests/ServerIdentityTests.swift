// Owns: connections that lead to another server than the one that is worked with, and journal rows that are not its own.
import Foundation
import RelayCore
import RelayTesting
import Synchronization
import Testing

@testable import PostgresSource

private let versions = [15, 18].filter(PostgresServer.versions.contains)

@Suite(.serialized) struct ServerIdentityTests {
  /// What connections with these settings are refused with: an ordinary one, and one for replication.
  private func refusals(_ settings: PostgresSettings) -> [RelayError] {
    var refusals: [RelayError] = []
    do throws(RelayError) {
      _ = try SQLConnection(settings, stop: StopSignal())
    } catch {
      refusals.append(error)
    }
    do throws(RelayError) {
      _ = try ReplicationConnection(settings, stop: StopSignal())
    } catch {
      refusals.append(error)
    }
    return refusals
  }

  /// Everything that outboxd has in the database.
  private func journal(_ database: LiveDatabase) throws -> String {
    try database.sql(
      "SELECT c FROM outboxd.checkpoint c; SELECT h FROM outboxd.checkpoint_history h; SELECT j FROM outboxd.job j"
    )
  }

  @Test(arguments: versions)
  func `a connection refuses every server but the one that it is to lead to`(version: Int) throws {
    let (server, other) = (try PostgresServer(version: version), try PostgresServer(version: version))
    let (database, elsewhere) = (try LiveDatabase(server), try LiveDatabase(other))
    let known = try database.settings.identified(stop: database.stop)
    #expect(known.server?.timeline == 1)
    #expect(refusals(known).isEmpty)
    var astray = known
    astray.conninfo = elsewhere.settings.conninfo
    let systems = try [server, other].map { try $0.sql("SELECT system_identifier FROM pg_control_system()") }
    let refused = refusals(astray)
    #expect(refused.count == 2)
    for error in refused {
      #expect(error.kind == .sourceUnavailable && !error.invalidatesStart, "\(error)")
      for word in systems + ["127.0.0.1:\(other.port)", "another cluster"] {
        #expect(error.message.contains(word), "\(error)")
      }
    }

    try server.stop()
    try server.write("", to: "standby.signal")
    try server.start()
    for error in refusals(known) {
      #expect(error.message.contains("is a standby") && !error.invalidatesStart, "\(error)")
    }
    #expect(refusals(known).count == 2)
    let standby = try database.settings.identified(stop: database.stop)
    #expect(standby.server?.timeline == nil && refusals(standby).isEmpty)

    try server.sql("SELECT pg_promote()")
    for settings in [known, standby] {
      let refused = refusals(settings)
      #expect(refused.count == 2)
      for error in refused {
        #expect(error.kind == .sourceUnavailable && error.invalidatesStart, "\(error)")
        #expect(error.message.contains("timeline 2"), "\(error)")
      }
    }
    let promoted = try database.settings.identified(stop: database.stop)
    #expect(refusals(promoted).isEmpty)
    // A server of before the promotion is waited out, as it can be no successor.
    let late = known.on(
      ServerIdentity(systemIdentifier: try #require(known.server).systemIdentifier, timeline: 3))
    #expect(refusals(late).map(\.invalidatesStart) == [false, false])
  }

  @Test(arguments: versions)
  func `the second connection writes to the server of the stream and to no other`(version: Int) throws {
    let (server, other) = (try PostgresServer(version: version), try PostgresServer(version: version))
    let (database, elsewhere) = (try LiveDatabase(server), try LiveDatabase(other))
    for each in [database, elsewhere] { each.settings.slot = "outboxd" }
    // Its connections lead elsewhere, where a relay of its own has been.
    let keeper = try elsewhere.keeper()
    func publish(_ database: LiveDatabase) throws -> (end: LSN, durable: LSN) {
      let stream = try database.open(keeper)
      try database.insert()
      let end = try stream.read(rows: 1)
      let deadline = MonotonicTime.now().advanced(milliseconds: 20_000)
      let durable = keeper.finish(end, deadline: deadline)
      stream.finish(flushed: .zero, deadline: deadline)
      return (end, durable)
    }
    let first = try publish(elsewhere)
    #expect(first.durable == first.end)
    var before = try journal(elsewhere)
    let writes = elsewhere.metrics.journalWrites.load(ordering: .relaxed)

    // A connection that is up, and then each that is tried.
    for _ in 0..<2 {
      try eventually("the slot is free", within: 10) {
        try server.sql("SELECT count(*) FROM pg_replication_slots WHERE active") == "0"
      }
      let astray = try publish(database)
      #expect(astray.durable < astray.end)
    }
    #expect(try journal(elsewhere) == before)
    #expect(elsewhere.metrics.journalWrites.load(ordering: .relaxed) == writes)
    #expect(elsewhere.metrics.journalFailures.load(ordering: .relaxed) > 0)
    let fault = elsewhere.metrics.watchFault ?? ""
    #expect(fault.contains("another cluster") && fault.contains(":\(other.port)"), "\(fault)")

    before = try journal(database)
    try eventually("the slot is free", within: 10) {
      try other.sql("SELECT count(*) FROM pg_replication_slots WHERE active") == "0"
    }
    let last = try publish(elsewhere)
    #expect(last.durable == last.end)
    #expect(try journal(database) == before)
    try eventually("the fault is over", within: 10) { elsewhere.metrics.watchFault == nil }
  }

  @Test(
    arguments: versions,
    [("system_identifier = 1", RelayError.Kind.systemIdentifierChanged), ("timeline = 7", .timelineDiverged)])
  func `a row that another process has written is not counted as written, and is judged again`(
    version: Int, change: (assignment: String, fault: RelayError.Kind)
  ) throws {
    let database = try LiveDatabase(try PostgresServer(version: version))
    let keeper = try database.keeper()
    let stream = try database.open(keeper)
    try database.insert()
    let deadline = MonotonicTime.now().advanced(milliseconds: 20_000)
    let first = try stream.read(rows: 1)
    #expect(keeper.finish(first, deadline: deadline) == first)
    try database.sql("UPDATE outboxd.checkpoint SET \(change.assignment)")
    let before = try journal(database)
    let writes = database.metrics.journalWrites.load(ordering: .relaxed)
    try database.insert()
    let end = try stream.read(rows: 1, flushed: first)
    #expect(keeper.finish(end, deadline: deadline) < end)
    #expect(try journal(database) == before)
    #expect(database.metrics.journalWrites.load(ordering: .relaxed) == writes)
    #expect(database.metrics.journaledLSN.load(ordering: .relaxed) == first.rawValue)
    #expect(database.metrics.watchFault?.contains("in outboxd.checkpoint has changed since") == true)
    let failure = try #require(stream.failure(flushed: first))
    #expect(failure.kind == .sourceUnavailable && failure.invalidatesStart, "\(failure)")
    #expect(database.refusal(keeper, resume: stream.checkpoint(end))?.kind == change.fault)
  }

  @Test(arguments: versions) func `a statement that touches no row is a fault`(version: Int) throws {
    let database = try LiveDatabase(try PostgresServer(version: version))
    _ = try database.open(try database.keeper())
    let store = try JobStore(settings: database.settings, stop: database.stop)
    let job = try store.begin(command: "replay", request: "{}")
    try store.write(job, position: "1", events: 1)
    try database.sql("DELETE FROM outboxd.job; UPDATE outboxd.checkpoint SET system_identifier = 1")
    let before = try journal(database)
    let connection = try SQLConnection(database.settings, stop: database.stop)
    let own = CheckpointJournal(connection: connection, slot: database.name)
    let system = try connection.identity().systemIdentifier
    // Far ahead, so that nothing but the system keeps the row.
    let checkpoint = Checkpoint(lsn: LSN(1 << 60), systemIdentifier: system, timeline: 1)
    #expect(throws: RelayError.self) { try own.write(checkpoint, snapshot: nil) }
    #expect(throws: RelayError.self) { try own.rewind(to: checkpoint, publication: nil) }
    #expect(throws: RelayError.self) { try own.writePublication(PublicationRecord(oid: 1), of: system) }
    #expect(throws: RelayError.self) { try store.write(job, position: "2", events: 2) }
    #expect(throws: RelayError.self) { try store.finish(job, events: 2) }
    #expect(try journal(database) == before)
    // What changes the system on purpose still does.
    try own.begin(
      SlotStart(lsn: LSN(7), snapshot: nil),
      in: Checkpoint(lsn: LSN(7), systemIdentifier: system, timeline: 1),
      publication: nil)
    #expect(try database.sql("SELECT lsn, system_identifier FROM outboxd.checkpoint") == "0/7|\(system)")
  }
}
