// Owns: a slot in words and as JSON.
// Must not know: catalog queries.
import PostgresSource
import RelayCore

extension SlotOverview {
  var text: String {
    var lines: [(String, String)] = [
      ("slot", "\(name) (\(role.rawValue))"),
      (
        "used by",
        facts.isActive ? "backend \(facts.activePID.map(String.init) ?? "unknown")" : "no process"
      ),
      ("confirmed", facts.confirmedFlushLSN?.description ?? "unknown"),
      (
        "held from",
        "\(facts.restartLSN?.description ?? "unknown"), "
          + "\(retainedBytes.map(RelayStatus.size) ?? "unknown") of WAL held on the server"
      ),
      ("wal status", facts.invalidationReason ?? facts.walStatus ?? "unknown"),
    ]
    if let safe = facts.safeWALSize {
      lines.append(("safe", "\(RelayStatus.size(UInt64(max(0, safe)))) left until the slot is in danger"))
    }
    return RelayStatus.columns(lines)
  }

  var json: JSONValue {
    .object([
      .init("name", .text(name)), .init("role", .text(role.rawValue)),
      .init("active", .boolean(facts.isActive)),
      .init("active_pid", facts.activePID.map { .integer(Int64($0)) } ?? .null),
      .init("temporary", .boolean(facts.isTemporary)),
      .init("confirmed_lsn", .optional(facts.confirmedFlushLSN?.description)),
      .init("restart_lsn", .optional(facts.restartLSN?.description)),
      .init("wal_status", .optional(facts.walStatus)),
      .init("invalidation_reason", .optional(facts.invalidationReason)),
      .init("retained_bytes", retainedBytes.map { .unsigned($0) } ?? .null),
      .init("safe_bytes", facts.safeWALSize.map { .integer($0) } ?? .null),
    ])
  }
}
