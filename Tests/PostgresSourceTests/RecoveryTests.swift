// Owns: a recovery step by step on a real server: nothing that happens between two steps may be left out.
import Foundation
import RelayCore
import RelayTesting
import Synchronization
import Testing

@testable import PostgresSource

/// The aggregate ids of all rows of a range.
private func read(
  _ range: TableRange, _ settings: PostgresSettings, stop: StopSignal = StopSignal()
) throws -> Set<String> {
  let source = try PostgresSource.openTables(
    range, resume: nil, settings: settings, mappings: [OutboxMapping()], stop: stop, log: Log(level: .error))
  var ids: Set<String> = []
  let deadline = MonotonicTime.now().advanced(milliseconds: 30_000)
  while !source.isAtEnd, MonotonicTime.now() < deadline {
    if let change = try source.next() {
      if case .insert(let row) = change { ids.insert(String(decoding: row.values[2].bytes, as: UTF8.self)) }
    } else if !source.isAtEnd {
      _ = try SQLConnection.wait(source.descriptor, Int16(POLLIN), until: deadline, stop: nil)
      try source.report(flushed: .zero, now: .now())
    }
  }
  return ids
}

@Suite(.serialized) struct RecoveryTests {
  private func insert(_ database: LiveDatabase, _ ids: String...) throws {
    for id in ids {
      try database.sql("INSERT INTO outbox (aggregatetype, aggregateid, type) VALUES ('a', '\(id)', 't')")
    }
  }

  /// A relay had started, and then somebody moved the slot.
  private func moved(_ version: Int) throws -> LiveDatabase {
    let database = try LiveDatabase(try PostgresServer(version: version, settings: [:]))
    let keeper = try database.keeper()
    let stream = try database.open(keeper)
    stream.finish(flushed: stream.startLSN, deadline: MonotonicTime.now().advanced(milliseconds: 5_000))
    keeper.stop()
    try insert(database, "gap", "updated")
    try eventually("the slot is free", within: 20) {
      try database.sql("SELECT count(*) FROM pg_replication_slots WHERE active") == "0"
    }
    try database.sql("SELECT pg_replication_slot_advance('\(database.settings.slot)', pg_current_wal_lsn())")
    return database
  }

  private func plan(_ database: LiveDatabase) throws -> Recovery {
    try eventually("the slot is free", within: 20) {
      do throws(RelayError) {
        return try Recovery.plan(
          settings: database.settings, mappings: database.mappings, wish: .repair, stop: database.stop)
      } catch  where error.kind == .slotActive {
        return nil
      }
    }
  }

  @Test(arguments: [PostgresServer.versions.first, PostgresServer.versions.last].compactMap(\.self))
  func aRowThatIsUpdatedAfterTheCutIsPublished(version: Int) throws {
    let database = try moved(version)
    let recovery = try plan(database)
    let cut = try recovery.cut(stop: database.stop, log: database.log)
    try database.sql("UPDATE outbox SET type = 'u' WHERE aggregateid = 'updated'")
    #expect(try read(recovery.range(before: cut), database.settings) == ["gap", "updated"])
  }

  @Test(arguments: [PostgresServer.versions.first, PostgresServer.versions.last].compactMap(\.self))
  func whatTheSlotStillHasIsNotSkipped(version: Int) throws {
    let database = try moved(version)
    try database.sql(
      """
      BEGIN; INSERT INTO outbox (aggregatetype, aggregateid, type) VALUES ('a', 'deleted', 't'); DELETE FROM outbox
      WHERE aggregateid = 'deleted'; COMMIT
      """)
    let recovery = try plan(database)
    let cut = try recovery.cut(stop: database.stop, log: database.log)
    #expect(try read(recovery.range(before: cut), database.settings) == ["gap", "updated"])
    try recovery.complete(cut, stop: database.stop)
    #expect(try plan(database).plan.action == .nothing)
    let stream = try database.open()
    _ = try stream.read(rows: 1)
    stream.finish(flushed: stream.startLSN, deadline: MonotonicTime.now().advanced(milliseconds: 5_000))
  }

  /// In the WAL a commit stands before others see its rows, while it waits for a standby.
  @Test func aSnapshotThatEndsBeforeItsBeginningIsWrittenAsThePostgresTypeWantsIt() {
    #expect(ReplicationConnection.wellFormed("1666:1665:") == "1666:1666:")
    #expect(ReplicationConnection.wellFormed("1665:1670:1666,1668") == "1665:1670:1666,1668")
    #expect(ReplicationConnection.wellFormed("5:5:") == "5:5:")
  }

  @Test func aCommitThatWaitsForAStandbyIsWaitedFor() throws {
    // When a slot waits for whom differs a little between the versions.
    let server = try PostgresServer(version: try #require(PostgresServer.versions.last), settings: [:])
    let database = try LiveDatabase(server)
    try server.set(["synchronous_standby_names": "'nobody'"])
    try server.reload()
    try eventually("commits wait", within: 20) {
      try database.sql("SHOW synchronous_standby_names") == "nobody"
    }
    // The cut waits for the first, then for the second; the commit comes while it waits for the second.
    let first = try transaction(database, "first")
    let settings = database.settings
    let cut = Background {
      let connection = try ReplicationConnection(settings, stop: StopSignal())
      return try PostgresSource.cut(
        connection, isTemporary: false, settings: settings, stop: StopSignal(), log: Log(level: .error))
    }
    try awaitLock(database, first.id)
    let second = try transaction(database, "second")
    try first.connection.query("COMMIT")
    try awaitLock(database, second.id)
    let third = try server.startSQL(
      "INSERT INTO outbox (aggregatetype, aggregateid, type) VALUES ('a', 'third', 't');",
      database: database.name)
    try eventually("the commit waits", within: 20) {
      try database.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == "1"
    }
    try second.connection.query("COMMIT")
    let start = try cut.wait()
    #expect(try read(TableRange(), settings) == ["first", "second"])
    var range = TableRange()
    range.covers = start.snapshot
    let reading = Background { [range] in try read(range, settings) }
    try eventually("the read has begun", within: 20) {
      try reading.isDone
        || database.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'outboxd tables'")
          == "1"
    }
    try server.set(["synchronous_standby_names": "''"])
    try server.reload()
    #expect(try reading.wait() == ["first", "second", "third"])
    #expect(try third.wait(seconds: 20) == 0)
  }

  @Test(arguments: [PostgresServer.versions.first, PostgresServer.versions.last].compactMap(\.self))
  func aSchemaThatWasTakenOutAndPutBackIsNoticed(version: Int) throws {
    let database = try LiveDatabase(try PostgresServer(version: version, settings: [:]))
    try database.sql(
      "ALTER PUBLICATION outboxd DROP TABLE outbox; ALTER PUBLICATION outboxd ADD TABLES IN SCHEMA public")
    let keeper = try database.keeper()
    let stream = try database.open(keeper)
    stream.finish(flushed: stream.startLSN, deadline: MonotonicTime.now().advanced(milliseconds: 5_000))
    keeper.stop()
    try database.sql("ALTER PUBLICATION outboxd DROP TABLES IN SCHEMA public")
    try insert(database, "left out")
    try database.sql("ALTER PUBLICATION outboxd ADD TABLES IN SCHEMA public")
    #expect(try plan(database).plan.fault?.kind == .publicationUnsuitable)
  }

  /// One that has inserted a row and is open.
  private func transaction(
    _ database: LiveDatabase, _ id: String
  ) throws -> (connection: SQLConnection, id: String) {
    var admin = database.settings
    admin.conninfo = database.server.adminConninfo(database.name)
    let connection = try SQLConnection(admin, applicationName: id, stop: StopSignal())
    try connection.query("SET synchronous_commit = local; BEGIN")
    try connection.query(
      "INSERT INTO public.outbox (aggregatetype, aggregateid, type) VALUES ('a', '\(id)', 't')")
    return (connection, try connection.query("SELECT pg_current_xact_id() AS id")[0, "id"] ?? "")
  }

  private func awaitLock(_ database: LiveDatabase, _ id: String) throws {
    try eventually("the cut waits for \(id)", within: 20) {
      try database.sql("SELECT count(*) FROM pg_locks WHERE NOT granted AND transactionid = '\(id)'") == "1"
    }
  }
}

/// Something that runs on a thread of its own.
private final class Background<Value: Sendable>: Sendable {
  private let value = Mutex<Result<Value, any Error>?>(nil)

  init(_ body: @escaping @Sendable () throws -> Value) {
    Thread.detachNewThread { [self] in
      let result = Result { try body() }
      value.withLock { $0 = result }
    }
  }

  var isDone: Bool { value.withLock { $0 != nil } }

  func wait() throws -> Value {
    try eventually("the thread ends", within: 40) { value.withLock { $0 } }.get()
  }
}
