// Owns: which roles gain nothing by what they could have the relay's role do, in SQL.
// Must not know: what they own.

enum TrustSQL {
  /// An SQL expression on a row `role` of `pg_catalog.pg_roles`: it is a superuser, the relay's role, a member of it, or
  /// it may alter roles. It owns what the relay evaluates, and has no more by that than it had.
  /// - Parameter relay: an SQL expression: the name of the relay's role. No role need have it.
  static func isTrusted(_ role: String, relay: String) -> String {
    "\(role).rolsuper OR \(role).rolcreaterole OR pg_catalog.pg_has_role(\(role).oid, "
      + "(SELECT relay.oid FROM pg_catalog.pg_roles AS relay WHERE relay.rolname = \(relay)), 'MEMBER')"
  }

  /// An SQL expression: the publication `p` belongs to such a role, or to one that may as well alter each of its tables.
  /// - Parameter tables: a query: the OIDs of the tables.
  static func isPublicationTrusted(relay: String, tables: String) -> String {
    "(EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.oid = p.pubowner AND (\(isTrusted("r", relay: relay)))) "
      + "OR NOT EXISTS (SELECT FROM pg_catalog.pg_class AS o WHERE o.oid IN (\(tables)) "
      + "AND NOT pg_catalog.pg_has_role(p.pubowner, o.relowner, 'MEMBER')))"
  }
}
