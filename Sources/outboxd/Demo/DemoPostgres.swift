// Owns: the demo's throw-away Postgres: finding its programs, making a cluster, starting and ending it.
// Must not know: what the demo does in it.
import Glibc
import PostgresSource
import RelayCore

/// A Postgres that listens on a Unix socket in a folder of its own, for nobody else.
final class DemoPostgres {
  private let folder: String
  private let process: DemoProcess

  /// Connects as superuser to a database of it.
  func conninfo(database: String, user: String = "postgres") -> String {
    "host=\(folder) port=5432 dbname=\(database) user=\(user)"
  }

  /// Makes the cluster in `workspace` and starts the server, without waiting for it.
  /// - Throws: `failed` with what to install, or with initdb's last lines.
  init(workspace: String) throws(RelayError) {
    let programs = try Self.programs()
    folder = workspace + "/postgres"
    guard mkdir(folder, 0o700) == 0 else { throw RelayError(.failed, "no folder \(folder): errno \(errno)") }
    let user = try Self.user(owning: folder)
    let log = workspace + "/postgres.log"
    let initdb = try DemoProcess(
      name: "initdb",
      command: [
        programs + "/initdb", "--pgdata", folder + "/data", "--username", "postgres", "--auth", "trust",
        "--encoding", "UTF8", "--no-locale", "--no-sync",
      ], user: user, folder: folder, logFile: log)
    guard initdb.waitForEnd(milliseconds: 60_000), initdb.exitCode == 0 else {
      initdb.end(SIGTERM, milliseconds: 1000)
      throw initdb.failure("did not make a cluster")
    }
    process = try DemoProcess(
      name: "Postgres",
      command: [programs + "/postgres", "-D", folder + "/data"]
        + [
          "listen_addresses=", "unix_socket_directories=\(folder)", "unix_socket_permissions=0700",
          "wal_level=logical", "max_wal_senders=4", "max_replication_slots=4", "shared_buffers=32MB",
          // The cluster does not outlive the demo.
          "fsync=off", "autovacuum=off",
        ].flatMap { ["-c", $0] },
      user: user, folder: folder, logFile: log)
  }

  func requireAlive() throws(RelayError) { try process.requireAlive() }

  /// Waits until it takes connections.
  /// - Throws: `failed` with its last lines; `interrupted`.
  func awaitReady(stop: StopSignal, checkSignals: () -> Void) throws(RelayError) {
    var settings = PostgresSettings()
    settings.conninfo = conninfo(database: "postgres")
    let deadline = MonotonicTime.now().advanced(milliseconds: 30_000)
    while true {
      checkSignals()
      try process.requireAlive()
      do throws(RelayError) {
        _ = try SQLConnection(settings, applicationName: "outboxd demo", stop: stop)
        return
      } catch {
        if error.kind == .interrupted { throw error }
        if MonotonicTime.now() >= deadline { throw process.failure("is not ready: \(error.message)") }
      }
      stop.wait(milliseconds: 50)
    }
  }

  /// Ends it: without the walsender's client it takes a moment.
  func end() { process.end(SIGINT, milliseconds: 10_000) }

  // MARK: Finding

  /// The folder with `initdb` and `postgres`: on the PATH, or the newest of Debian's.
  private static func programs() throws(RelayError) -> String {
    var candidates: [String] = []
    if let found = Executable.find("initdb").flatMap({ Executable.resolved($0) }) {
      candidates.append(String(found.dropLast("/initdb".count)))
    }
    candidates += debianFolders() + ["/usr/local/pgsql/bin", "/usr/pgsql/bin"]
    let found = candidates.first { folder in
      ["initdb", "postgres"].allSatisfy { access("\(folder)/\($0)", X_OK) == 0 }
    }
    guard let found else {
      throw RelayError(
        .failed, "no Postgres server is installed here (initdb and postgres were looked for)",
        remedy: "apt-get install postgresql, or use your own: outboxd demo --postgres CONNINFO")
    }
    return found
  }

  /// `/usr/lib/postgresql/18/bin` and so on, newest first.
  private static func debianFolders() -> [String] {
    let root = "/usr/lib/postgresql"
    guard let folder = opendir(root) else { return [] }
    defer { closedir(folder) }
    var versions: [Int] = []
    while let entry = readdir(folder) {
      // SAFETY: the name is NUL-terminated within the entry, which is valid until the next readdir.
      let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
        pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if let version = Int(name) { versions.append(version) }
    }
    return versions.sorted(by: >).map { "\(root)/\($0)/bin" }
  }

  /// Postgres refuses to run as root: the folder is given to the user `postgres` then.
  private static func user(owning folder: String) throws(RelayError) -> String? {
    guard geteuid() == 0 else { return nil }
    // SAFETY: the entry is static, and read before any other look-up.
    guard let entry = getpwnam("postgres") else {
      throw RelayError(
        .failed, "Postgres does not run as root, and there is no user postgres on this machine",
        remedy: "Run the demo as another user.")
    }
    guard chown(folder, entry.pointee.pw_uid, entry.pointee.pw_gid) == 0 else {
      throw RelayError(.failed, "could not give \(folder) to the user postgres: errno \(errno)")
    }
    return "postgres"
  }
}
