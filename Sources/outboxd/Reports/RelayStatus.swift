// Owns: `outboxd status`: slot, checkpoints and lags, as the database knows them, and what the outboxd here waits for.
// Must not know: catalog queries.
import Glibc
import PostgresSource
import RelayCore

/// What the slot and the journal say, in order.
struct RelayStatus {
  let facts: ServerFacts
  let settings: PostgresSettings
  let mappings: [OutboxMapping]
  /// The outboxd that answers on `admin.listen`, whatever it relays; nil where none does.
  let local: LocalRelay?
  var replay = ReplayStatus()

  /// The outboxd on this machine, if it relays what the configuration says.
  private var own: LocalRelay? { local.flatMap { isOwn($0) ? $0 : nil } }

  private func isOwn(_ relay: LocalRelay) -> Bool {
    relay.slot == settings.slot && (relay.database == nil || relay.database == facts.database)
  }

  private var checkpoint: LSN? {
    facts.journal.row?.checkpoint.lsn
  }

  private var faults: [RelayError] {
    StartDecision(facts: facts, settings: settings, mappings: mappings).faults
      .filter { $0.kind != .slotActive }
  }

  /// A standby here is in order while another one streams.
  var isHealthy: Bool {
    faults.isEmpty && facts.slot?.isActive == true && (own.map { $0.isReady || $0.isStandby } ?? true)
  }

  private var relayState: String {
    guard let slot = facts.slot else { return "no slot" }
    guard slot.isActive else { return "not running: no process streams from the slot" }
    if slot.isBeingCreated {
      return
        "none yet: the slot is being created by backend \(slot.activePID.map(String.init) ?? "unknown"), which "
        + "waits for \(slot.waitsFor?.description ?? "older transactions")"
    }
    return "active: streaming to backend \(slot.activePID.map(String.init) ?? "unknown")"
  }

  private var state: String {
    guard let slot = facts.slot else { return "no slot" }
    return slot.isBeingCreated ? "creating" : slot.isActive ? "active" : "stopped"
  }

  private var here: String {
    guard let local else { return "no outboxd answers on admin.listen" }
    guard isOwn(local) else {
      let place = local.database.map { " of database \"\($0)\"" } ?? ""
      return "the outboxd on admin.listen relays another slot, \"\(local.slot)\"\(place)"
    }
    return local.role
  }

  private func bytes(from lsn: LSN?) -> UInt64? {
    lsn.map { facts.walEnd > $0 ? facts.walEnd.rawValue - $0.rawValue : 0 }
  }

  var text: String {
    var lines: [(String, String)] = [
      ("relay", relayState),
      ("here", here),
    ]
    lines += own?.lines ?? []
    lines += [
      ("database", "\(facts.database), server \(PostgresSource.version(facts.serverVersion))"),
      ("wal", "\(facts.walEnd) on timeline \(facts.timeline)"),
    ]
    if let slot = facts.slot {
      lines.append(("slot", "\(settings.slot), WAL \(slot.walStatus ?? "unknown")"))
      lines.append(("confirmed", position(slot.confirmedFlushLSN, "behind the WAL's end")))
      lines.append(("held from", position(slot.restartLSN, "of WAL held on the server")))
      if let holder = replay.holder {
        lines.append(
          ("held by", "\(holder): the slot needs the WAL since that transaction began. \(holder.remedy)"))
      }
      if let safe = slot.safeWALSize {
        lines.append(("safe", "\(Self.size(UInt64(max(0, safe)))) left until the slot is in danger"))
      }
    } else {
      lines.append(("slot", "\(settings.slot) does not exist"))
    }
    switch facts.journal {
    case .row(let row):
      lines.append(
        ("checkpoint", "\(row.checkpoint.lsn) in the journal" + (row.isFromHistory ? "'s history" : "")))
    case .empty: lines.append(("checkpoint", "none in the journal yet"))
    case .forgotten: lines.append(("checkpoint", "no longer in the journal"))
    case .absent: lines.append(("checkpoint", "no journal"))
    case .off: lines.append(("checkpoint", "none: postgres.journal is off"))
    case .unusable(let reason, _): lines.append(("checkpoint", "the journal cannot be used: \(reason)"))
    }
    lines += replay.lines(settings)
    for fault in faults {
      lines.append(("fault", fault.message))
      if let remedy = fault.remedy { lines.append(("remedy", remedy)) }
    }
    return Self.columns(lines)
  }

  static func columns(_ lines: [(String, String)]) -> String {
    lines.map { name, value in
      name + String(repeating: " ", count: max(1, 12 - name.utf8.count))
        + PrintableText.escapingControls(value) + "\n"
    }.joined()
  }

  private func position(_ lsn: LSN?, _ meaning: String) -> String {
    guard let lsn, let bytes = bytes(from: lsn) else { return "unknown" }
    return "\(lsn), \(Self.size(bytes)) \(meaning)"
  }

  var json: JSONValue {
    .object([
      .init(
        "state", .text(state)),

      .init("healthy", .boolean(isHealthy)),
      .init("role_here", .optional(own?.role)),
      .init("here", own?.json ?? .null),
      .init("database", .text(facts.database)),
      .init("server_version", .text(PostgresSource.version(facts.serverVersion))),
      .init("timeline", .integer(Int64(facts.timeline))),
      .init("wal_lsn", .text("\(facts.walEnd)")),
      .init("slot", .text(settings.slot)),
      .init("active_pid", facts.slot?.activePID.map { .integer(Int64($0)) } ?? .null),
      .init("confirmed_lsn", .optional(facts.slot?.confirmedFlushLSN?.description)),
      .init("restart_lsn", .optional(facts.slot?.restartLSN?.description)),
      .init("checkpoint_lsn", .optional(checkpoint?.description)),
      .init("lag_bytes", bytes(from: facts.slot?.confirmedFlushLSN).map { .unsigned($0) } ?? .null),
      .init("held_by", .optional(replay.holder?.description)),
      .init("retained_bytes", bytes(from: facts.slot?.restartLSN).map { .unsigned($0) } ?? .null),
      .init("safe_bytes", facts.slot?.safeWALSize.map { .integer($0) } ?? .null),
      .init("wal_status", .optional(facts.slot?.walStatus)),
      .init("replay", replay.json),
      .init(
        "faults",
        .array(
          faults.map {
            .object([
              .init("kind", .text($0.kind.rawValue)), .init("message", .text($0.message)),
              .init("remedy", .optional($0.remedy)),
            ])
          })),
    ])
  }

  /// `1.5 MiB`: one decimal, by powers of 1024.
  static func size(_ bytes: UInt64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB"]
    var value = bytes
    var rest: UInt64 = 0
    var unit = 0
    while value >= 1024, unit < units.count - 1 {
      rest = value % 1024
      value /= 1024
      unit += 1
    }
    return unit == 0 ? "\(value) bytes" : "\(value).\(rest * 10 / 1024) \(units[unit])"
  }
}
