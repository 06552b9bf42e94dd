// Owns: the one sentence that leads out of every gap, and how a lost slot is kept from being lost again.
// Must not know: how a gap is recognised or closed.

enum GapRemedy {
  static let recover =
    "outboxd recover publishes what may have been skipped, and lets outboxd run continue from there; outboxd recover "
    + "--dry-run shows what it would do."

  /// - Parameter advice: a sentence that comes before.
  static func recover(_ advice: String) -> String { "\(advice) \(recover)" }

  /// For a server that may be a copy of the one that published before.
  static func original(_ occasion: String) -> String {
    "If this server is a copy (of a backup, a snapshot, a replica), give it another slot, source and brokers before "
      + "outboxd runs there: see \"A copy of production\" in the manual. If it is the original\(occasion): outboxd recover "
      + "--yes-this-is-the-original publishes what may have been skipped, and lets outboxd run continue from there; outboxd "
      + "recover --dry-run shows what it would do. Where servers share a source on purpose: relay.check_origin: false."
  }

  /// WAL is gone that no limit of the server's has removed: the slot would be invalidated then.
  static let missingWAL = recover(
    "Find out what removed the WAL segment: a person or a script in pg_wal, or a restore whose pg_replslot is older than its "
      + "pg_wal.")

  /// - Parameter reason: `pg_replication_slots.invalidation_reason`; nil where the server does not tell.
  static func slotLost(_ reason: String?) -> String {
    switch reason {
    case "idle_timeout":
      recover(
        "Set idle_replication_slot_timeout = 0 on the server, or longer than outboxd will ever be stopped.")
    case "wal_level_insufficient":
      recover("Set wal_level = 'logical' on the primary, and restart it.")
    case "rows_removed", "conflicting":
      recover(
        "Set hot_standby_feedback = on on the standby, with a physical slot for it on the primary, or connect outboxd "
          + "to the primary.")
    default: recover("Set max_slot_wal_keep_size so that the slot outlives an outage.")
    }
  }
}
