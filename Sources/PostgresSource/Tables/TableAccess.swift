// Owns: what every read of an outbox's rows goes through: the role that reads, the lock, and what is looked at under it.
// Must not know: the statement that reads the rows.
//
// A table belongs to its writers, and Postgres runs code of theirs as whoever reads it. A view or a policy in its place is
// only the plainest way: the planner evaluates the immutable functions of index expressions and predicates, of statistics
// and of partition keys, with the privileges of the reader, before it has read a row. REPLICATION reads every table's
// changes, so that it must not be the reader's, or nothing of this kind may be there.
//
// The settings of every session (`SQLConnection`) have the server refuse policies, views and foreign tables at the plan
// itself, and leave CHECK constraints alone. What is looked at here is looked at between lock and plan: a lock that a reader may take stops ALTER TABLE, not
// CREATE INDEX, so that for the moment between the two only a role without REPLICATION helps (postgres.read_conninfo).
import RelayCore

extension PostgresSettings {
  /// The same, for connections that read the tables of outboxes.
  public var reading: PostgresSettings {
    guard let readConninfo else { return self }
    var settings = self
    settings.conninfo = readConninfo
    settings.passwordFile = readPasswordFile
    return settings
  }
}

extension SQLConnection {
  /// A connection that reads the tables of outboxes.
  /// - Throws: as `init`.
  static func reading(
    _ settings: PostgresSettings, applicationName: String, stop: StopSignal
  ) throws(RelayError) -> SQLConnection {
    do throws(RelayError) {
      return try SQLConnection(settings.reading, applicationName: applicationName, stop: stop)
    } catch {
      throw settings.readConninfo == nil ? error : error.naming("postgres.read_", for: "postgres.")
    }
  }
}

extension RelayError {
  /// What is said of the settings of one role, said of the other's.
  fileprivate func naming(_ new: String, for old: String) -> RelayError {
    var error = self
    for key in ["conninfo", "password_file"] {
      error.message = error.message.replacing(old + key, with: new + key)
      error.remedy = error.remedy?.replacing(old + key, with: new + key)
    }
    return error
  }
}

struct TableAccess {
  /// On a connection that sees the catalog of the moment: one whose transaction has no snapshot of before.
  let catalog: TableCatalog

  /// Comes first: what it locks keeps its kind, its columns and its name within the schema.
  static func lock(_ shape: TableShape) -> String {
    "LOCK TABLE \(TableQuery.relation(shape)) IN ACCESS SHARE MODE"
  }

  /// Under the lock: the name stands for the table that was meant, with the columns that were expected, and to plan a read
  /// of it runs no function of somebody who would gain by that.
  /// - Throws: `failed` where the table is another one by now, `tableUnsuitable`, `sourceDenied`.
  func require(_ shape: TableShape) throws(RelayError) {
    guard let mapping = shape.outbox else { throw Self.replaced(shape) }
    let now = try catalog.shape(mapping, String(shape.oid))
    guard now.schema == shape.schema, now.table == shape.table, now.isPartitioned == shape.isPartitioned,
      now.columns == shape.columns, now.serial == shape.serial, now.time == shape.time
    else { throw Self.replaced(shape) }
    let tree =
      "SELECT \(shape.oid)::oid AS id UNION SELECT relid::oid FROM pg_partition_tree(\(shape.oid))"
    let found = try catalog.connection.query(
      """
      SELECT current_user::text AS role, row_security_active(\(shape.oid)) AS secured,
        (SELECT min(c.oid::regclass::text) FROM (\(tree)) AS t JOIN pg_class c ON c.oid = t.id
          WHERE c.relkind NOT IN ('r', 'p')) AS other
      """)
    let role = found[0, "role"] ?? ""
    if found[0, "secured"] == "t" {
      throw RelayError(
        .sourceDenied,
        "\(shape.qualifiedName) has row security policies for role \"\(role)\": they would hide rows, and run code of the "
          + "table's owner",
        remedy:
          "ALTER TABLE \(SQLText.qualified(shape.schema, shape.table)) DISABLE ROW LEVEL SECURITY; or ALTER ROLE "
          + "\(SQLText.identifier(role)) BYPASSRLS;")
    }
    if let name = found[0, "other"] {
      throw RelayError(
        .tableUnsuitable,
        "the partition \(name) of \(shape.qualifiedName) is a foreign table: outboxd reads no rows through foreign servers",
        remedy:
          "Detach it: ALTER TABLE \(SQLText.qualified(shape.schema, shape.table)) DETACH PARTITION \(name);")
    }
    try refuseCode(of: shape, tree, role: role)
  }

  /// - Parameter tree: a query: the OIDs of the table and its partitions.
  private func refuseCode(of shape: TableShape, _ tree: String, role: String) throws(RelayError) {
    let code = try catalog.connection.query(Self.functions(tree))
    guard let function = code[0, "function"], let owner = code[0, "owner"] else { return }
    throw RelayError(
      .tableUnsuitable,
      "\(shape.qualifiedName) was not read: to plan the query, Postgres may run the function \(function) of role \"\(owner)\", "
        + "which an index, a statistics object or a partition key of the table uses, as role \"\(role)\", "
        + "which has rights that \"\(owner)\" lacks (REPLICATION or more)",
      remedy:
        "Read the tables by a role without REPLICATION: postgres.read_conninfo. Or drop what uses the function."
    )
  }

  static func replaced(_ shape: TableShape) -> RelayError {
    RelayError(
      .failed,
      "table \(shape.qualifiedName) was renamed, replaced, truncated or rewritten, or a partition of it was detached, since "
        + "this read began: rows would be left out", remedy: "Start the command again.")
  }

  /// What the server refuses at the lock or at the plan where something else has taken the table's place.
  static func isReplacement(_ error: RelayError) -> Bool {
    // No such table, or schema; not a table; "access to non-system view is restricted".
    ["42P01", "3F000", "42809", "55000"].contains(error.code)
  }

  /// The functions that the planner may evaluate for a table, of owners that gain by it: where the role that asks has
  /// attributes or memberships beyond an ordinary role's.
  private static func functions(_ tree: String) -> String {
    """
    WITH RECURSIVE tree AS (\(tree)), objects (class, id) AS (
      SELECT 'pg_class'::regclass::oid, id FROM tree
      UNION SELECT 'pg_class'::regclass, indexrelid FROM pg_index WHERE indrelid IN (SELECT id FROM tree)
      UNION SELECT 'pg_statistic_ext'::regclass, oid FROM pg_statistic_ext WHERE stxrelid IN (SELECT id FROM tree)
      UNION SELECT used.class, used.id FROM objects AS o CROSS JOIN LATERAL (
        SELECT refclassid, refobjid FROM pg_depend WHERE classid = o.class AND objid = o.id AND objsubid = 0
          AND refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_type'::regclass)
        UNION ALL SELECT 'pg_constraint'::regclass, oid FROM pg_constraint
          WHERE o.class = 'pg_type'::regclass AND contypid = o.id) AS used (class, id))
    SELECT p.oid::regprocedure::text AS function, r.rolname AS owner
    FROM objects AS o JOIN pg_proc p ON o.class = 'pg_proc'::regclass AND p.oid = o.id
    JOIN pg_roles r ON r.oid = p.proowner
    WHERE NOT (r.rolsuper OR \(TrustSQL.mayAlterRoles("r")) OR pg_has_role(r.oid, current_user, 'MEMBER'))
      AND EXISTS (\(powers))
    ORDER BY 1 LIMIT 1
    """
  }

  /// Rows `power`: what the role that asks may do beyond an ordinary one, itself or by SET ROLE.
  static let powers = """
    SELECT DISTINCT power FROM pg_roles AS m CROSS JOIN LATERAL (VALUES ('SUPERUSER', m.rolsuper),
      ('REPLICATION', m.rolreplication), ('CREATEROLE', m.rolcreaterole), ('BYPASSRLS', m.rolbypassrls),
      (m.rolname::text, m.oid < 16384 AND NOT m.rolsuper)) AS v (power, has)
    WHERE pg_has_role(m.oid, 'MEMBER') AND has
    """
}

/// A table whose lock is held, for a short read of its rows, on a connection in a transaction of its own that lasts as long as
/// the connection.
struct LockedTable {
  let connection: SQLConnection
  let shape: TableShape

  /// - Parameter timeout: seconds that the lock, and every statement, may take.
  /// - Throws: as `TableAccess.require`, and what a connection throws.
  init(
    _ mapping: OutboxMapping, _ publication: PublicationFacts?, settings: PostgresSettings, timeout: Int,
    stop: StopSignal
  ) throws(RelayError) {
    connection = try SQLConnection.reading(settings, applicationName: "outboxd check", stop: stop)
    let catalog = TableCatalog(connection: connection, settings: settings, publication: publication)
    try connection.query("BEGIN READ ONLY")
    try connection.query(
      "SELECT set_config('lock_timeout', '\(timeout)s', true), set_config('statement_timeout', '\(timeout)s', true)"
    )
    shape = try catalog.shape(mapping)
    try connection.query(TableAccess.lock(shape), phase: .rows(mapping.qualifiedName))
    try TableAccess(catalog: catalog).require(shape)
  }
}
