// Owns: a slot that cannot be there before others' transactions have ended: who is named, and what a stop leaves.
import Foundation
import RelayCore
import RelayTesting
import Synchronization
import Testing

@testable import PostgresSource

private let ends = [PostgresServer.versions.first, PostgresServer.versions.last].compactMap(\.self)

@Suite(.serialized) struct SlotCreationTests {
  private static let prepared = "BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'left behind'"

  private func slots(_ database: LiveDatabase) throws -> Int {
    try database.server.integer("SELECT count(*) FROM pg_replication_slots")
  }

  @Test(arguments: ends)
  func `whoever a new slot waits for is named, and a stop leaves no slot that is half made`(
    version: Int
  ) throws {
    let database = try LiveDatabase(try PostgresServer(version: version))
    // Neither may end the wait.
    try database.sql(
      "ALTER ROLE outboxd SET lock_timeout = '200ms'; ALTER ROLE outboxd SET statement_timeout = '700ms'")
    try database.sql(Self.prepared)
    let keeper = try database.keeper()
    let (settings, mappings, stop, log) = (database.settings, database.mappings, database.stop, database.log)
    let result = MailBox<RelayError.Kind?>()
    let thread = try RelayThread(name: "open") {
      do throws(RelayError) {
        _ = try PostgresSource.open(
          settings: settings, mappings: mappings, keeper: keeper, stop: stop, log: log)
        result.put(nil)
      } catch {
        result.put(error.kind)
      }
    }
    let hold = try eventually("the reason of the wait", within: 20) { database.metrics.busyWith }
    #expect(hold.contains("\"left behind\"") && hold.contains("user postgres"), "\(hold)")
    // Another check knows what it sees: no relay, and no standby.
    let facts = try PostgresSource.inspect(settings: settings, mappings: mappings, stop: StopSignal())
    let slot = try #require(facts.slot)
    #expect(slot.isBeingCreated && slot.waitsFor?.gid == "left behind")
    let fault = try #require(
      StartDecision(facts: facts, settings: settings, mappings: mappings).faults.first)
    #expect(
      fault.kind == .sourceUnavailable && fault.remedy?.contains("ROLLBACK PREPARED 'left behind'") == true)
    stop.request()
    thread.join()
    #expect(result.take() == .interrupted)
    #expect(database.metrics.busyWith == nil)
    #expect(try slots(database) == 0)
    try database.sql("ROLLBACK PREPARED 'left behind'")
  }

  @Test func `a session that keeps the slot's WAL is named with its process`() throws {
    let database = try LiveDatabase(try PostgresServer())
    try database.server.sql("GRANT pg_read_all_stats TO outboxd")
    try database.createSlot()
    let session = try database.server.startSQL(
      "SET application_name = 'forgotten'; BEGIN; SELECT pg_current_xact_id(); SELECT pg_backend_pid(); "
        + "SELECT pg_sleep(100);", database: database.name)
    let pid = try eventually("the transaction has begun", within: 20) {
      try database.sql(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'forgotten' AND backend_xid IS NOT NULL"
      ).split(separator: "\n").first.flatMap { Int($0) }
    }
    let connection = try SQLConnection(database.settings, stop: database.stop)
    let oldest = try #require(try OpenTransaction.oldest(on: connection))
    #expect(oldest.pid == pid && oldest.application == "forgotten" && oldest.gid == nil)
    #expect(oldest.description.contains("of process \(pid) (user postgres, database \(database.name)"))
    #expect(oldest.remedy.contains("pg_terminate_backend(\(pid))"))
    session.signal(SIGKILL)
  }

  @Test func `how long it has lasted is told in units that people use`() {
    let texts = [-1, 0, 119, 120, 7199, 7200, 172_799, 172_800, Int64.max].map(OpenTransaction.duration)
    #expect(
      texts == [
        "0 s", "0 s", "119 s", "2 min", "119 min", "2 h 0 min", "47 h 59 min", "2 d 0 h",
        "106751991167300 d 15 h",
      ])
  }
}

/// A value from another thread.
private final class MailBox<Value: Sendable>: Sendable {
  private let value = Mutex<Value?>(nil)
  func put(_ new: Value) { value.withLock { $0 = new } }
  func take() -> Value? { value.withLock { $0 } }
}
