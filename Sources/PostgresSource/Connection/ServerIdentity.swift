// Owns: which server a connection leads to, and the refusal of every other one.
// Must not know: what is done on the connection.
//
// A conninfo names no server. Of several hosts libpq takes the first that answers, and a name, a proxy or a failover may
// lead each connection elsewhere. An LSN, a snapshot or a transaction id of one server means another thing on the next,
// and the journal of the next is another relay's. So whoever has found out which server it works with goes on with
// settings that name it, and every connection made with these is refused before its first statement where it leads
// elsewhere. A copy of a data folder cannot be told from its original by this: see `ServerOrigin`.
import CLibpq
public import RelayCore

/// A server, at one point of its history, and a database of it.
public struct ServerIdentity: Equatable, Sendable {
  public var systemIdentifier: UInt64
  /// Nil: a standby. It follows the timeline of its primary, and never parts from what it has replayed.
  public var timeline: UInt32?
  /// Nil: any.
  public var database: String?

  public init(systemIdentifier: UInt64, timeline: UInt32?, database: String? = nil) {
    self.systemIdentifier = systemIdentifier
    self.timeline = timeline
    self.database = database
  }

  /// - Parameter reached: where the connection led to, `host:port`, for the message.
  /// - Throws: as `fault` is.
  func require(_ found: ServerIdentity, at reached: String) throws(RelayError) {
    var found = found
    if database == nil || found.database == nil { found.database = database }
    if found != self { throw fault(found, at: reached) }
  }

  /// What is said where `found` was reached in the place of this server: `sourceUnavailable`, as the next connection may
  /// lead to the right one. It invalidates the start where a server of the same cluster was promoted.
  func fault(_ found: ServerIdentity, at reached: String) -> RelayError {
    guard found.systemIdentifier == systemIdentifier else {
      return RelayError(
        .sourceUnavailable,
        "the connection to Postgres reached another cluster: \(reached) has system identifier "
          + "\(found.systemIdentifier), and outboxd works with \(systemIdentifier)",
        remedy:
          "Name the servers of one cluster only in postgres.conninfo, and see where its host names and proxies "
          + "lead. If another cluster has taken the place of the former one, start outboxd again: it judges what it finds."
      )
    }
    if let database, let other = found.database, other != database {
      return RelayError(
        .sourceDenied,
        "the connection to Postgres (\(reached)) reached database \"\(other)\", and outboxd works with \"\(database)\"",
        remedy: "Name the same database wherever outboxd connects: dbname=\(database).")
    }
    var error = RelayError(
      .sourceUnavailable,
      "the connection to Postgres reached another server of the cluster: \(reached) is \(found.role), and outboxd works "
        + "with \(role) of system \(systemIdentifier)",
      remedy: "None after a failover: outboxd judges the new primary. Otherwise add target_session_attrs to "
        + "postgres.conninfo, which says which of its servers is wanted.")
    error.invalidatesStart = found.timeline.map { $0 > timeline ?? 0 } ?? false
    return error
  }

  private var role: String { timeline.map { "a primary on timeline \($0)" } ?? "a standby" }
}

extension SQLConnection {
  /// Where libpq has got to: `host:port`, with the address where that is not the name.
  var reached: String {
    // SAFETY (all calls): the handle is alive; libpq owns the texts.
    let host = PQhost(handle).map { String(cString: $0) } ?? ""
    let address = PQhostaddr(handle).map { String(cString: $0) } ?? ""
    let port = PQport(handle).map { String(cString: $0) } ?? ""
    return (address.isEmpty || address == host ? host : "\(host) (\(address))") + ":\(port)"
  }

  /// On an ordinary connection. One that is to stream asks IDENTIFY_SYSTEM, which reads no catalog.
  /// - Throws: `sourceDenied` where the role may not execute `pg_control_system`, as everybody may by default.
  func identity() throws(RelayError) -> ServerIdentity {
    let result = try query(
      """
      SELECT system_identifier, CASE WHEN NOT pg_is_in_recovery()
        THEN ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::bigint END AS timeline,
        current_database()::text AS database
      FROM pg_control_system()
      """)
    guard let system = result[0, "system_identifier"].flatMap({ UInt64($0) }) else {
      throw RelayError(.serverUnsuitable, "the server (\(target)) did not return its system identifier")
    }
    return ServerIdentity(
      systemIdentifier: system, timeline: result[0, "timeline"].flatMap { UInt32($0) },
      database: result[0, "database"])
  }
}

extension PostgresSettings {
  /// The same, for connections that lead to this server.
  public func on(_ server: ServerIdentity) -> PostgresSettings {
    var settings = self
    settings.server = server
    return settings
  }

  /// Connects, and finds out which server the conninfo leads to now: every connection with these settings leads there, or
  /// fails.
  public func identified(stop: StopSignal) throws(RelayError) -> PostgresSettings {
    on(try SQLConnection(self, stop: stop).identity())
  }
}
