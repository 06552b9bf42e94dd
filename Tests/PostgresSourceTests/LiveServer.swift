// Owns: databases on one Postgres server for the tests of this folder, and a stream to read them by.
import Foundation
import RelayCore
import RelayTesting
import Testing

@testable import PostgresSource

/// A database of its own on a server, prepared with the files of `sql/`.
final class LiveDatabase {
  let server: PostgresServer
  let name: String
  var settings = PostgresSettings()
  var mappings = [OutboxMapping()]
  let stop = StopSignal()
  let metrics = RelayMetrics()
  let log = Log(level: .error)
  private var keepers: [JournalKeeper] = []

  /// - Parameters:
  ///   - files: those of `sql/` that are run, by their number.
  ///   - encoding: the database's.
  init(
    _ server: PostgresServer, files: [String] = ["01", "03", "04", "05", "06"], encoding: String = "UTF8"
  ) throws {
    self.server = server
    // Slots are the cluster's: their names follow the database's.
    name = "d" + TestTools.uniqueName("").filter(\.isNumber)
    try server.sql(
      "CREATE DATABASE \(name) ENCODING '\(encoding)' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    for file in files { try server.sql(try Self.file(file), database: name) }
    settings.conninfo = server.conninfo(name)
    settings.slot = name
  }

  deinit { keepers.forEach { $0.stop() } }

  static func file(_ number: String) throws -> String {
    let folder = TestTools.repository + "/sql"
    let files = try FileManager.default.contentsOfDirectory(atPath: folder)
    let name = try #require(files.first { $0.hasPrefix(number) })
    return try String(contentsOfFile: "\(folder)/\(name)", encoding: .utf8)
  }

  @discardableResult
  func sql(_ text: String) throws -> String { try server.sql(text, database: name) }

  func keeper(
    outboxes: String = "", publicationInterval: Int = 10_000, anchorInterval: Int = 5_000
  ) throws -> JournalKeeper {
    let keeper = JournalKeeper(
      settings: settings, mappings: mappings, outboxes: outboxes, log: log, metrics: metrics,
      publicationInterval: publicationInterval, anchorInterval: anchorInterval)
    try keeper.start()
    keepers.append(keeper)
    return keeper
  }

  func open(_ keeper: JournalKeeper? = nil, resume: Checkpoint? = nil) throws(RelayError) -> ReplicationStream
  {
    try PostgresSource.open(
      settings: settings, mappings: mappings, keeper: keeper, resume: resume, stop: stop, log: log)
  }

  /// What `open` is refused with.
  func refusal(_ keeper: JournalKeeper? = nil, resume: Checkpoint? = nil) -> RelayError? {
    do throws(RelayError) {
      _ = try open(keeper, resume: resume)
      return nil
    } catch {
      return error
    }
  }

  func insert(_ count: Int = 1, payload: String = "'{}'") throws {
    try sql(
      "INSERT INTO outbox (aggregatetype, aggregateid, type, payload) SELECT 'a', n::text, 't', \(payload) "
        + "FROM generate_series(1, \(count)) n")
  }

  var confirmed: LSN? {
    get throws {
      LSN(
        try sql("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '\(settings.slot)'"))
    }
  }

  func createSlot() throws {
    try sql("SELECT pg_create_logical_replication_slot('\(settings.slot)', 'pgoutput')")
  }
}

/// As a relay of the newest session would.
extension JournalKeeper {
  func store(_ checkpoint: LSN) -> LSN { mailbox.store(checkpoint, in: mailbox.session).lsn }

  func finish(_ checkpoint: LSN, deadline: MonotonicTime) -> LSN {
    mailbox.finish(checkpoint, in: mailbox.session, deadline: deadline).lsn
  }

  func settle(at checkpoint: LSN, deadline: MonotonicTime) {
    mailbox.settle(at: checkpoint, deadline: deadline)
  }
}

extension ReplicationStream {
  /// Reads until `count` rows are committed and returns the last end. Reports `flushed` as the loop would.
  func read(rows count: Int, flushed: LSN? = nil, seconds: Int = 20) throws -> LSN {
    let deadline = MonotonicTime.now().advanced(milliseconds: seconds * 1000)
    var rows = 0
    while MonotonicTime.now() < deadline {
      guard let change = try step(flushed ?? startLSN, until: deadline) else { continue }
      switch change {
      case .insert: rows += 1
      case .commit(_, let endLSN, _) where rows >= count: return endLSN
      default: break
      }
    }
    throw HarnessError("\(rows) rows of \(count)")
  }

  /// Turns until a failure comes.
  func failure(flushed: LSN, seconds: Int = 20) -> RelayError? {
    let deadline = MonotonicTime.now().advanced(milliseconds: seconds * 1000)
    while MonotonicTime.now() < deadline {
      do throws(RelayError) {
        _ = try step(flushed, until: deadline)
      } catch {
        return error
      }
    }
    return nil
  }

  /// The next change as the loop takes it: a shape waits for the check of the publication.
  func take() throws(RelayError) -> Change? {
    let change = try next()
    guard case .relation? = change else { return change }
    while let wait = try shapeWait() {
      _ = try SQLConnection.wait(
        wait.descriptor ?? descriptor, Int16(POLLIN), until: wait.until, stop: nil)
    }
    return change
  }

  /// One turn of a loop.
  @discardableResult
  func step(_ flushed: LSN, until deadline: MonotonicTime) throws(RelayError) -> Change? {
    if let change = try take() { return change }
    if let fault = takeFault() { throw fault }
    try report(flushed: flushed, now: .now())
    let wake = min(deadline, min(reportTime, MonotonicTime.now().advanced(milliseconds: 200)))
    _ = try SQLConnection.wait(
      descriptor, Int16(POLLIN) | (wantsWrite ? Int16(POLLOUT) : 0), until: wake, stop: nil)
    return nil
  }
}
