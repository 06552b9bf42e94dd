// Owns: what is known of the reads of tables: who reads, what that role may do besides, what is not read and why.
// Must not know: what is said about it.
public import RelayCore

public struct ReadingRole: Equatable, Sendable {
  public var name: String
  /// What it may do beyond an ordinary role, itself or by a membership: `REPLICATION`, `SUPERUSER`, names of roles.
  public var powers: [String]
  /// The server refuses views and foreign tables as it plans (`restrict_nonsystem_relation_kind`).
  public var refusesViews: Bool
  /// How its connection is protected.
  public var transport: PostgresTransport
  /// Why a table of an outbox is not read, by the outbox's name. Those that are read are not in it.
  public var faults: [String: RelayError]

  /// Asks the server as the role that reads tables, and goes through what a read of each table would.
  /// - Throws: what a connection throws.
  public static func examine(
    _ facts: ServerFacts, settings: PostgresSettings, mappings: [OutboxMapping], stop: StopSignal
  ) throws(RelayError) -> ReadingRole {
    let settings = settings.on(facts.server)
    let connection = try SQLConnection.reading(settings, applicationName: "outboxd check", stop: stop)
    let result = try connection.query(
      """
      SELECT current_user::text AS name, EXISTS (SELECT FROM pg_settings
          WHERE name = 'restrict_nonsystem_relation_kind') AS refuses,
        (SELECT string_agg(power, chr(10) ORDER BY power) FROM (\(TableAccess.powers)) AS p) AS powers
      """)
    var role = ReadingRole(
      name: result[0, "name"] ?? "",
      powers: result[0, "powers"]?.split(separator: "\n").map(String.init) ?? [],
      refusesViews: result[0, "refuses"] == "t", transport: connection.transport, faults: [:])
    for mapping in mappings {
      do throws(RelayError) {
        _ = try LockedTable(mapping, facts.publication, settings: settings, timeout: 2, stop: stop)
      } catch {
        if error.kind == .interrupted { throw error }
        role.faults[mapping.qualifiedName] = error
      }
    }
    return role
  }
}
