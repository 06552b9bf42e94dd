// Owns: which roles gain nothing by what they could have the relay's role do, in SQL.
// Must not know: what they own.

enum TrustSQL {
  /// An SQL expression on a row `role` of `pg_catalog.pg_roles`: it is a superuser, reads the whole WAL by REPLICATION, is
  /// the relay's role or a member of it, or may alter it. It owns what the relay evaluates, and has no more by that than
  /// it had.
  /// - Parameter relay: an SQL expression: the name of the relay's role. No role need have it.
  static func isTrusted(_ role: String, relay: String) -> String {
    "\(role).rolsuper OR \(role).rolreplication OR \(mayAlterRoles(role)) OR pg_catalog.pg_has_role(\(role).oid, "
      + "(SELECT relay.oid FROM pg_catalog.pg_roles AS relay WHERE relay.rolname = \(relay)), 'MEMBER')"
  }

  /// An SQL expression: the role may alter every role that is no superuser. From 16 on CREATEROLE is a power over those
  /// roles only that it is a member of, with ADMIN.
  static func mayAlterRoles(_ role: String) -> String {
    "(\(role).rolcreaterole AND pg_catalog.current_setting('server_version_num')::int < 160000)"
  }

  /// An SQL expression: the publication `p` belongs to such a role, or to one that may as well alter each of its tables.
  /// - Parameter tables: a query: the OIDs of the tables.
  static func isPublicationTrusted(relay: String, tables: String) -> String {
    "(EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.oid = p.pubowner AND (\(isTrusted("r", relay: relay)))) "
      + "OR NOT EXISTS (SELECT FROM pg_catalog.pg_class AS o WHERE o.oid IN (\(tables)) "
      + "AND NOT pg_catalog.pg_has_role(p.pubowner, o.relowner, 'MEMBER')))"
  }
}
