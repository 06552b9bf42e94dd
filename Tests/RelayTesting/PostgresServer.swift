// Owns: a Postgres server of a test: made, started, stopped, asked.
// Must not know: what the test does with it.
import Foundation
import Glibc

/// A server with a data folder of its own, on a free port of 127.0.0.1, run by a user that is not root.
public final class PostgresServer: Sendable {
  public enum StopMode: String, Sendable { case fast, immediate, smart }

  /// Major versions for which there are binaries here.
  public static let versions: [Int] = [15, 16, 17, 18].filter { binaries(of: $0) != nil }
  /// The oldest that is there: Debian's, with TLS.
  public static let defaultVersion: Int = versions.first ?? 15

  public let version: Int
  public let port: Int
  public let folder: String
  public var data: String { folder + "/data" }
  private let binaries: String
  private let asUser: [String]

  /// Makes and starts a server. `settings` are lines of postgresql.conf.
  public init(
    version: Int = PostgresServer.defaultVersion, settings: [String: String] = [:], hba: String? = nil
  ) throws {
    guard let binaries = Self.binaries(of: version) else {
      throw HarnessError("no Postgres \(version) here: run Tests/setup")
    }
    self.version = version
    self.binaries = binaries
    port = try freePort()
    folder = TestFolder.make("postgres\(version)")
    asUser = getuid() == 0 ? ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] : []
    if getuid() == 0 { try ChildProcess.check(["chown", "postgres:", folder]) }
    try ChildProcess.check(
      asUser + [
        "\(binaries)/initdb", "-D", folder + "/data", "-A", "trust", "-U", "postgres", "-N", "-E", "UTF8",
        "--locale=C",
      ])
    var lines = [
      "listen_addresses": "'127.0.0.1'", "port": "\(port)", "unix_socket_directories": "'\(folder)'",
      "wal_level": "logical", "fsync": "off", "max_prepared_transactions": "50", "max_connections": "40",
      "track_commit_timestamp": "on", "max_wal_senders": "10", "max_replication_slots": "10",
      "shared_buffers": "64MB", "log_min_messages": "log", "wal_sender_timeout": "60s",
    ]
    lines.merge(settings) { $1 }
    try append(lines.map { "\($0) = \($1)\n" }.sorted().joined(), to: "postgresql.conf")
    if let hba { try write(hba, to: "pg_hba.conf") }
    Reaper.shared.tell("postgres \(data)")
    try start()
  }

  /// A copy of another server's data folder, on a port of its own.
  /// - Parameters:
  ///   - withSlots: as a storage snapshot has them; a base backup has not.
  ///   - promoted: started as a standby that became a primary: on another timeline.
  ///   - standbySlot: started as a standby of the other one, by this physical slot of it; from 17 on with its failover
  ///     slots.
  public init(
    copyOf original: PostgresServer, withSlots: Bool, promoted: Bool = false, standbySlot: String? = nil
  ) throws {
    version = original.version
    binaries = original.binaries
    asUser = original.asUser
    port = try freePort()
    folder = TestFolder.make("postgres\(version)")
    if getuid() == 0 { try ChildProcess.check(["chown", "postgres:", folder]) }
    try original.stop()
    try ChildProcess.check(["cp", "-a", original.data, data])
    try original.start()
    if !withSlots { try ChildProcess.check(["sh", "-c", "rm -rf \(data)/pg_replslot/*"]) }
    try set(["port": "\(port)", "unix_socket_directories": "'\(folder)'"])
    if promoted {
      try set(["restore_command": "'/bin/false'"])
      try write("", to: "recovery.signal")
    }
    if let standbySlot {
      try set([
        "primary_conninfo": "'\(original.adminConninfo())'", "primary_slot_name": "'\(standbySlot)'",
        "hot_standby_feedback": "on",
      ])
      if version >= 17 { try set(["sync_replication_slots": "on"]) }
      try write("", to: "standby.signal")
    }
    Reaper.shared.tell("postgres \(data)")
    try start()
  }

  deinit { try? stop(.immediate) }

  static func binaries(of version: Int) -> String? {
    ["/usr/lib/postgresql/\(version)/bin", "\(TestTools.cache)/postgres-\(version)/bin"]
      .first { access("\($0)/postgres", X_OK) == 0 && access("\($0)/initdb", X_OK) == 0 }
  }

  private func append(_ text: String, to file: String) throws {
    let old = FileManager.default.contents(atPath: "\(data)/\(file)") ?? Data()
    try write(String(decoding: old, as: UTF8.self) + text, to: file)
  }

  /// Writes a file of the data folder as the user of the server.
  public func write(_ text: String, to file: String) throws {
    let path = "\(data)/\(file)"
    let source = TestFolder.make("file") + "/content"
    try Data(text.utf8).write(to: URL(fileURLWithPath: source))
    try ChildProcess.check(asUser + ["install", "-m", "600", source, path])
  }

  /// Adds settings, which hold from the next start on.
  public func set(_ settings: [String: String]) throws {
    try append(settings.map { "\($0) = \($1)\n" }.sorted().joined(), to: "postgresql.conf")
  }

  public func start() throws {
    let result = try ChildProcess.run(control(["-w", "-t", "60", "-l", folder + "/log", "start"]))
    guard result.status == 0 else { throw HarnessError("Postgres does not start:\n\(log.suffix(2000))") }
  }

  public func stop(_ mode: StopMode = .fast) throws {
    guard access("\(data)/postmaster.pid", F_OK) == 0 else { return }
    try ChildProcess.check(control(["-w", "-t", "60", "-m", mode.rawValue, "stop"]))
  }

  public func restart(_ mode: StopMode = .fast) throws {
    try stop(mode)
    try start()
  }

  public func reload() throws { try ChildProcess.check(control(["reload"])) }

  private func control(_ arguments: [String]) -> [String] {
    asUser + ["\(binaries)/pg_ctl", "-D", data] + arguments
  }

  public var log: String {
    String(decoding: FileManager.default.contents(atPath: folder + "/log") ?? Data(), as: UTF8.self)
  }

  // Connections.

  /// For the superuser, over the socket.
  public func adminConninfo(_ database: String = "postgres") -> String {
    "host=\(folder) port=\(port) user=postgres dbname=\(database)"
  }

  /// For the relay, over TCP.
  public func conninfo(_ database: String = "postgres", user: String = "outboxd", more: String = "") -> String
  {
    "host=127.0.0.1 port=\(port) dbname=\(database) user=\(user)" + (more.isEmpty ? "" : " " + more)
  }

  /// Debian's `psql` in PATH is a script that looks for this one each time.
  private static let psql: String = {
    guard let folder = binaries(of: defaultVersion), access(folder + "/psql", X_OK) == 0 else {
      return "psql"
    }
    return folder + "/psql"
  }()

  func psql(_ database: String, user: String = "postgres") -> [String] {
    [
      Self.psql, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d",
      "host=\(folder) port=\(port) user=\(user) dbname=\(database)",
    ]
  }

  /// A role that may log in, and nothing else.
  public func createRole(_ name: String) throws {
    try sql(
      "SELECT 'CREATE ROLE \(name) LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '\(name)') \\gexec"
    )
  }

  /// Runs SQL, as superuser where no other role is named, each statement by itself, and returns the unaligned output
  /// without a last newline.
  @discardableResult
  public func sql(
    _ text: String, database: String = "postgres", user: String = "postgres", seconds: Double = 300
  ) throws -> String {
    let output = try ChildProcess.check(psql(database, user: user), input: .text(text), seconds: seconds)
    return output.hasSuffix("\n") ? String(output.dropLast()) : output
  }

  /// Runs SQL in the background.
  public func startSQL(
    _ text: String, database: String = "postgres", user: String = "postgres"
  ) throws -> ChildProcess {
    try ChildProcess(psql(database, user: user), input: .text(text), folder: TestFolder.make("psql"))
  }

  public func integer(_ query: String, database: String = "postgres") throws -> Int {
    let text = try sql(query, database: database)
    guard let value = Int(text) else { throw HarnessError("\(query) gave \(text)") }
    return value
  }
}
