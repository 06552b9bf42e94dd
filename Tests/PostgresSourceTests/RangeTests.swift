// Owns: anchor, plan and range against real servers: what is kept, what is read again, what is given up.
import Foundation
import RelayCore
import RelayTesting
import Synchronization
import Testing

@testable import PostgresSource

/// One row as a source hands it over: its transaction, its place there, its bytes.
private struct Seen: Equatable {
  var commitLSN: LSN
  var commitTime: PostgresMicroseconds
  var values: [[UInt8]]
}

/// Gathers rows and the ends of transactions.
private struct Reader {
  var rows: [Seen] = []
  var ends: [LSN] = []
  private var commitLSN = LSN.zero
  private var commitTime: PostgresMicroseconds = 0

  mutating func take(_ change: Change) {
    switch change {
    case .begin(let lsn, let time, _): (commitLSN, commitTime) = (lsn, time)
    case .insert(let row):
      rows.append(
        Seen(commitLSN: commitLSN, commitTime: commitTime, values: row.values.map { Array($0.bytes) }))
    case .commit(_, let endLSN, _): ends.append(endLSN)
    default: break
    }
  }
}

extension RangeStream {
  /// Reads to the end as the loop would.
  fileprivate func readAll(limit: Int = .max, seconds: Int = 30) throws -> Reader {
    let deadline = MonotonicTime.now().advanced(milliseconds: seconds * 1000)
    var reader = Reader()
    while !isAtEnd, reader.ends.count < limit {
      guard MonotonicTime.now() < deadline else { throw HarnessError("the range does not end: \(progress)") }
      if let change = try next() {
        reader.take(change)
        continue
      }
      try report(flushed: reader.ends.last ?? .zero, now: .now())
      if isAtEnd { break }
      let wake = min(deadline, min(reportTime, MonotonicTime.now().advanced(milliseconds: 200)))
      _ = try SQLConnection.wait(
        descriptor, Int16(POLLIN) | (wantsWrite ? Int16(POLLOUT) : 0), until: wake, stop: nil)
    }
    finish(flushed: reader.ends.last ?? .zero, deadline: deadline)
    return reader
  }
}

extension LiveDatabase {
  fileprivate func plan(
    from: ReplayPlace, to: ReplayPlace? = nil, origin: ReplayOrigin? = nil
  ) throws(RelayError) -> ReplayPlan {
    try PostgresSource.planReplay(
      settings: settings, mappings: mappings, from: from, to: to, origin: origin, stop: stop)
  }

  fileprivate func range(_ plan: ReplayPlan, resume: String? = nil) throws(RelayError) -> RangeStream {
    try PostgresSource.openRange(
      plan, resume: resume, settings: settings, mappings: mappings, stop: stop, log: log)
  }

  fileprivate var anchor: String { ReplaySlots.anchor(of: settings.slot) }

  fileprivate func slot(_ name: String, _ column: String) throws -> String {
    try sql("SELECT \(column) FROM pg_replication_slots WHERE slot_name = '\(name)'")
  }
}

/// A relay's side of a stream, as far as slot and journal notice it.
private final class Pump {
  let stream: ReplicationStream
  let keeper: JournalKeeper
  var reader = Reader()
  private var position = LSN.zero

  init(_ stream: ReplicationStream, _ keeper: JournalKeeper) {
    self.stream = stream
    self.keeper = keeper
  }

  /// Reads, stores and reports until `done`.
  func run(_ what: String, seconds: Int = 60, until done: () throws -> Bool) throws {
    let deadline = MonotonicTime.now().advanced(milliseconds: seconds * 1000)
    while try !done() {
      guard MonotonicTime.now() < deadline else { throw HarnessError("never: \(what)") }
      let turn = MonotonicTime.now().advanced(milliseconds: 100)
      while MonotonicTime.now() < turn {
        guard let change = try stream.step(keeper.store(position), until: turn) else { continue }
        reader.take(change)
        if case .keepalive(let walEnd) = change { position = max(position, walEnd) }
        position = max(position, reader.ends.last ?? .zero)
      }
    }
  }

  func settle(rows: Int) throws {
    try run("\(rows) rows") { reader.rows.count >= rows }
    let end = try #require(reader.ends.last)
    let deadline = MonotonicTime.now().advanced(milliseconds: 20_000)
    _ = keeper.finish(end, deadline: deadline)
    try stream.report(flushed: end, now: .now())
  }
}

@Suite(.serialized) struct RangeTests {
  private func start(_ version: Int, settings: [String: String] = [:]) throws -> (LiveDatabase, Pump)? {
    guard PostgresServer.versions.contains(version) else { return nil }
    let database = try LiveDatabase(try PostgresServer(version: version, settings: settings))
    database.settings.replayWindow = 3600
    // The guard of the publication looks once, in the turn that measures the slot.
    let keeper = try database.keeper(publicationInterval: 3_600_000, anchorInterval: 50)
    let pump = Pump(try database.open(keeper), keeper)
    try pump.run("an anchor") { try database.slot(database.anchor, "1") == "1" }
    try pump.run("a measured slot") { database.metrics.slot?.walStatus == "reserved" }
    return (database, pump)
  }

  @Test(
    "A range is what the main stream delivered, both ends included, and the main slot stands still",
    arguments: [15, 18])
  func range(version: Int) throws {
    guard let (database, pump) = try start(version) else { return }
    for size in [3, 1, 50, 2, 7, 1] { try database.insert(size) }
    try database.sql("CREATE TABLE other (); INSERT INTO other DEFAULT VALUES")
    try pump.settle(rows: 64)
    let rows = pump.reader.rows
    let commits = rows.map(\.commitLSN).reduce(into: [LSN]()) { if $0.last != $1 { $0.append($1) } }
    try #require(commits.count == 6)
    let before = try database.slot(database.name, "confirmed_flush_lsn, restart_lsn")
    for (first, last) in [(0, 5), (1, 3), (2, 2), (5, 5)] {
      let plan = try database.plan(from: .lsn(commits[first]), to: .lsn(commits[last]))
      #expect(plan.origin == .wal && plan.from == commits[first] && plan.through == commits[last])
      let read = try database.range(plan).readAll()
      #expect(read.rows == rows.filter { $0.commitLSN >= commits[first] && $0.commitLSN <= commits[last] })
      #expect(!read.rows.isEmpty)
    }
    // From the end of a transaction on: the next one. Without an end: all that is published.
    do {
      let range = try database.range(try database.plan(from: .lsn(pump.reader.ends[0])))
      #expect(try range.readAll().rows == rows.filter { $0.commitLSN > commits[0] })
      #expect(range.progress.done == range.progress.total)
    }
    #expect(try database.slot(database.name, "confirmed_flush_lsn, restart_lsn") == before)
    try eventually("temporary slots are gone", within: 10) {
      try database.sql("SELECT count(*) FROM pg_replication_slots") == "2" ? true : nil
    }
    // And the main stream goes on.
    try database.insert()
    try pump.settle(rows: 65)
  }

  @Test(
    "A range that was broken off goes on behind the last transaction that was confirmed", arguments: [15, 18])
  func resume(version: Int) throws {
    guard let (database, pump) = try start(version) else { return }
    for _ in 0..<20 { try database.insert(2) }
    try pump.settle(rows: 40)
    let plan = try database.plan(from: .lsn(pump.reader.rows[0].commitLSN))
    let first = try database.range(plan)
    let part = try first.readAll(limit: 8)
    let reached = try #require(part.ends.last)
    let position = try #require(first.position(after: reached))
    #expect(first.position(after: plan.from) == nil)
    let rest = try database.range(plan, resume: position).readAll()
    #expect(part.rows + rest.rows == pump.reader.rows)
    // Nothing is left.
    let last = try #require(rest.ends.last)
    let end = try #require(first.position(after: last))
    let nothing = try database.range(plan, resume: end)
    #expect(nothing.isAtEnd)
    #expect(throws: RelayError.self) { try database.range(plan, resume: "0/1") }
    #expect(throws: RelayError.self) { try database.range(plan, resume: "x") }
  }

  @Test("Rows before and after a publication was created again are in a range", arguments: [15, 18])
  func publication(version: Int) throws {
    guard let (database, pump) = try start(version) else { return }
    try database.insert(3)
    try pump.settle(rows: 3)
    pump.stream.finish(flushed: .zero, deadline: MonotonicTime.now().advanced(milliseconds: 10_000))
    try database.sql(
      """
      BEGIN; DROP PUBLICATION outboxd; CREATE PUBLICATION outboxd FOR TABLE outbox
      WITH (publish = 'insert', publish_via_partition_root = true); COMMIT
      """)
    try database.insert(4)
    try eventually("the slot is free", within: 10) { try database.slot(database.name, "active") == "f" }
    try database.sql("SELECT pg_replication_slot_advance('\(database.name)', pg_current_wal_lsn())")
    let plan = try database.plan(from: .lsn(pump.reader.rows[0].commitLSN))
    let rows = try database.range(plan).readAll().rows
    #expect(rows.count == 7 && Array(rows.prefix(3)) == pump.reader.rows)
  }

  @Test("What is asked for and cannot be had is refused, with what can be had", arguments: [15, 18])
  func refusals(version: Int) throws {
    guard let (database, pump) = try start(version) else { return }
    func refusal(
      _ from: ReplayPlace, _ to: ReplayPlace? = nil, _ origin: ReplayOrigin? = nil
    ) -> RelayError? {
      do throws(RelayError) {
        _ = try database.plan(from: from, to: to, origin: origin)
        return nil
      } catch {
        return error
      }
    }
    try database.insert(2)
    try pump.settle(rows: 2)
    let position = try database.slot(database.anchor, "confirmed_flush_lsn")
    let low = try #require(refusal(.lsn(LSN(1)), nil, .wal))
    #expect(low.kind == .replayUnavailable && low.message.contains(position), "\(low)")
    #expect(refusal(.lsn(LSN(1)))?.kind == .replayUnavailable)
    let commit = pump.reader.rows[0].commitLSN
    #expect(refusal(.lsn(LSN(.max)))?.message.contains("beyond the end of the WAL") == true)
    #expect(refusal(.lsn(commit), .lsn(LSN(commit.rawValue - 1)))?.kind == .usage)
    #expect(refusal(.time(postgresNow() + 3_600_000_000))?.message.contains("future") == true)
    #expect(refusal(.lsn(commit), .lsn(LSN(.max)))?.kind == .usage)
    let none = try #require(refusal(.time(0)))
    #expect(none.kind == .replayUnavailable && none.message.contains(position), "\(none)")
    // An anchor that goes away between plan and range.
    let plan = try database.plan(from: .lsn(commit))
    try database.sql("SELECT pg_replication_slot_advance('\(database.anchor)', pg_current_wal_lsn())")
    #expect(throws: RelayError.self) { try database.range(plan) }
  }

  @Test(
    "A time is translated by the history, and the WAL from there holds everything that committed since",
    arguments: [15, 18])
  func times(version: Int) throws {
    guard let (database, pump) = try start(version) else { return }
    for _ in 0..<5 { try database.insert() }
    try pump.settle(rows: 5)
    // The first row of the history is older than the anchor: a second one is needed.
    try pump.run("a second row of the history", seconds: 40) {
      try database.insert()
      return try database.integer("SELECT count(*) FROM outboxd.checkpoint_history") >= 2
    }
    try pump.settle(rows: pump.reader.rows.count)
    let row = try database.sql("SELECT lsn FROM outboxd.checkpoint_history ORDER BY recorded_at DESC LIMIT 1")
    let time = postgresNow()
    try database.insert(3)
    try pump.settle(rows: database.integer("SELECT count(*) FROM outbox"))
    let plan = try database.plan(from: .time(time))
    #expect(plan.origin == .wal && plan.fromTime == time && "\(plan.from)" == row)
    let read = try database.range(plan).readAll()
    #expect(read.rows.filter { $0.commitTime >= time } == pump.reader.rows.filter { $0.commitTime >= time })
    #expect(read.rows.filter { $0.commitTime >= time }.count == 3)
  }

  @Test(
    "The anchor follows the window, no faster than the journal, and lets the WAL go", arguments: [15, 18])
  func window(version: Int) throws {
    guard PostgresServer.versions.contains(version) else { return }
    let database = try LiveDatabase(try PostgresServer(version: version))
    database.settings.replayWindow = 1
    let keeper = try database.keeper(anchorInterval: 50)
    let pump = Pump(try database.open(keeper), keeper)
    try pump.run("an anchor") { try database.slot(database.anchor, "1") == "1" }
    let first = try database.slot(database.anchor, "confirmed_flush_lsn")
    try pump.run("an anchor that moves", seconds: 40) {
      try database.insert()
      return try database.slot(database.anchor, "confirmed_flush_lsn") != first
    }
    #expect(
      try database.integer(
        """
        SELECT count(*) FROM pg_replication_slots a, outboxd.checkpoint_history h
        WHERE a.slot_name = '\(database.anchor)' AND h.lsn = a.confirmed_flush_lsn
          AND h.recorded_at <= now() - interval '1 second'
        """) == 1)
    #expect(database.metrics.anchor?.retainedBytes ?? -1 >= 0)
  }

  @Test("The anchor goes before a limit on WAL does harm, and the main stream goes on", arguments: [15, 18])
  func danger(version: Int) throws {
    guard
      let (database, pump) = try start(
        version, settings: ["max_slot_wal_keep_size": "'256MB'", "max_wal_size": "'64MB'"])
    else { return }
    try database.sql("CREATE TABLE other (text text)")
    try pump.run("an anchor that is given up", seconds: 120) {
      try database.sql(
        "INSERT INTO other SELECT repeat('x', 1000) FROM generate_series(1, 10000); CHECKPOINT;")
      let status = try database.slot(database.anchor, "wal_status")
      #expect(status != "lost")
      return status.isEmpty
    }
    #expect(["reserved", "extended"].contains(try database.slot(database.name, "wal_status")))
    try database.insert(3)
    try pump.settle(rows: 3)
    // It is not made again at once.
    let commit = pump.reader.rows[0].commitLSN
    #expect(throws: RelayError.self) { try database.plan(from: .lsn(commit), origin: .wal) }
  }

  @Test("The window is shortened rather than hold more bytes than it may", arguments: [15, 18])
  func bytes(version: Int) throws {
    guard PostgresServer.versions.contains(version) else { return }
    let database = try LiveDatabase(try PostgresServer(version: version))
    database.settings.replayWindow = 86_400
    database.settings.replayMaxBytes = 96 << 20
    let keeper = try database.keeper(anchorInterval: 50)
    let pump = Pump(try database.open(keeper), keeper)
    try pump.run("an anchor") { try database.slot(database.anchor, "1") == "1" }
    let first = try #require(LSN(try database.slot(database.anchor, "restart_lsn")))
    try database.sql("CREATE TABLE other (text text)")
    try pump.run("an anchor that lets WAL go", seconds: 120) {
      try database.sql(
        "INSERT INTO other SELECT repeat('x', 1000) FROM generate_series(1, 20000); CHECKPOINT;")
      guard let restart = LSN(try database.slot(database.anchor, "restart_lsn")) else { return false }
      return restart.rawValue > first.rawValue + (64 << 20)
    }
    #expect(
      try database.integer(
        "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) FROM pg_replication_slots "
          + "WHERE slot_name = '\(database.anchor)'") < 192 << 20)
  }
}
