// Owns: transactions that have not ended, as others wait for them or keep WAL for them: who they are.
// Must not know: what waits, what is done about it.
import RelayCore

/// A transaction that has a number and has not ended.
public struct OpenTransaction: Equatable, Sendable {
  public var transactionID: String
  /// Nil: it is prepared, and belongs to no process.
  public var pid: Int?
  /// Of a prepared transaction.
  public var gid: String?
  public var user: String?
  public var database: String?
  public var application: String?
  /// As `pg_stat_activity` has it; nil where the role may not see it.
  public var state: String?
  public var seconds: Int64?

  public init(transactionID: String, pid: Int? = nil, gid: String? = nil) {
    self.transactionID = transactionID
    self.pid = pid
    self.gid = gid
  }
}

extension OpenTransaction: CustomStringConvertible {
  public var description: String {
    var facts: [String] = []
    if let user { facts.append("user \(user)") }
    if let database { facts.append("database \(database)") }
    if let application, !application.isEmpty {
      facts.append("application \(PrintableText.quoted(application))")
    }
    if let state { facts.append(state) }
    if let seconds { facts.append("since \(Self.duration(seconds))") }
    let holder =
      gid.map { "prepared transaction \(PrintableText.quoted($0))" }
      ?? pid.map { "transaction \(transactionID) of process \($0)" } ?? "transaction \(transactionID)"
    return facts.isEmpty ? holder : "\(holder) (\(facts.joined(separator: ", ")))"
  }

  /// What ends it.
  public var remedy: String {
    if let gid {
      let name = SQLText.literal(gid)
      return "COMMIT PREPARED \(name); or ROLLBACK PREPARED \(name);"
        + (database.map { " in database \($0)" } ?? "")
    }
    return pid.map { "SELECT pg_terminate_backend(\($0)); ends it and rolls it back." }
      ?? "See pg_stat_activity and pg_prepared_xacts."
  }

  /// `42 s`, `3 min`, `2 h 5 min`, `4 d 3 h`
  static func duration(_ seconds: Int64) -> String {
    switch seconds {
    case ..<120: "\(max(0, seconds)) s"
    case ..<7200: "\(seconds / 60) min"
    case ..<172_800: "\(seconds / 3600) h \(seconds / 60 % 60) min"
    default: "\(seconds / 86_400) d \(seconds / 3600 % 24) h"
    }
  }
}

extension OpenTransaction {
  /// The transactions that the backend waits for now.
  static func blocking(_ pid: Int, on connection: SQLConnection) throws(RelayError) -> [OpenTransaction] {
    try read(
      "l.transactionid IN (SELECT w.transactionid FROM pg_locks w WHERE w.pid = \(pid) AND NOT w.granted "
        + "AND w.locktype = 'transactionid')", on: connection)
  }

  /// The one with the lowest number in the cluster.
  static func oldest(on connection: SQLConnection) throws(RelayError) -> OpenTransaction? {
    try read("true", on: connection).first
  }

  /// Every role sees `pg_locks` whole; of the other views, as far as its rights go.
  private static func read(
    _ condition: String, on connection: SQLConnection
  ) throws(RelayError) -> [OpenTransaction] {
    let result = try connection.query(
      """
      SELECT l.transactionid::text AS xid, l.pid, p.gid, coalesce(a.usename, p.owner) AS usename,
        coalesce(a.datname, p.database) AS datname, a.application_name, a.state,
        extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, p.prepared))::bigint AS seconds
      FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
      LEFT JOIN pg_prepared_xacts p ON p.transaction = l.transactionid
      WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted AND \(condition)
      ORDER BY age(l.transactionid) DESC LIMIT 5
      """)
    return result.rows.indices.compactMap { row in
      guard let transactionID = result[row, "xid"] else { return nil }
      var transaction = OpenTransaction(
        transactionID: transactionID, pid: result[row, "pid"].flatMap { Int($0) }, gid: result[row, "gid"])
      transaction.user = result[row, "usename"]
      transaction.database = result[row, "datname"]
      transaction.application = result[row, "application_name"]
      transaction.state = result[row, "state"]
      transaction.seconds = result[row, "seconds"].flatMap { Int64($0) }
      return transaction
    }
  }
}
