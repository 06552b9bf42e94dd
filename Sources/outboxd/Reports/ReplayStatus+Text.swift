// Owns: how `outboxd status` shows anchor, replay window, WAL held and unfinished jobs.
// Must not know: how they were read.
import PostgresSource
import RelayCore

extension ReplayStatus {
  /// Name and value of each line.
  func lines(_ settings: PostgresSettings) -> [(String, String)] {
    var lines = [("anchor", anchorText(settings))]
    lines.append(("replay", "from the WAL: \(Self.text(fromWAL)); from the tables: \(Self.text(fromTable))"))
    lines.append(("wal rate", walRate.map { "\(RelayStatus.size($0)) a second" } ?? "not known yet"))
    lines.append(("limit", limitText))
    lines += jobs.map { job in
      let isKnown = ["replay", "backfill"].contains(job.command)
      let remedy =
        isKnown ? ". If it is no longer running: outboxd \(job.command) --resume --job \(job.id)" : ""
      return (
        "job",
        "\(job.id) \(isKnown ? job.command : PrintableText.quoted(job.command)), since "
          + "\(Self.time(job.startedAt)), last progress \(Self.time(job.updatedAt)), events: \(job.events)\(remedy)"
      )
    }
    return lines
  }

  private func anchorText(_ settings: PostgresSettings) -> String {
    guard let anchor else {
      if settings.replayWindow == nil { return "none: replay.window is off" }
      return leavesNoWindow ? "none: max_slot_wal_keep_size leaves no room for it" : "none yet"
    }
    let held = anchor.retainedBytes.map(RelayStatus.size) ?? "unknown"
    let left =
      settings.replayWindow == nil ? "; replay.window is off: outboxd slot drop-anchor drops it" : ""
    return
      "\(anchor.name), WAL \(anchor.facts.walStatus ?? "unknown"), \(held) of WAL held on the server\(left)"
  }

  /// The nearest of both slots' limits.
  private var limitText: String {
    guard let main else { return "none: the slot does not exist" }
    if main.facts.walStatus == "lost" || main.facts.invalidationReason != nil {
      return "slot \(main.name) is lost"
    }
    let slots = [main, anchor].compactMap(\.self).filter { $0.facts.safeWALSize != nil }
    guard let first = slots.min(by: { $0.facts.safeWALSize ?? 0 < $1.facts.safeWALSize ?? 0 }) else {
      return "none: max_slot_wal_keep_size is not set; the WAL held may fill the disk"
    }
    let safe = RelayStatus.size(UInt64(max(0, first.facts.safeWALSize ?? 0)))
    let time = secondsLeft(first).map { "\(Self.span(seconds: $0)) at this rate, " } ?? ""
    return "\(time)\(safe) left until slot \(first.name) is in danger"
  }

  private static func text(_ reach: Reach?) -> String {
    guard let reach else { return "not possible" }
    return "\(reach.lsn)" + (reach.time.map { " (\(time($0)))" } ?? "") + " on"
  }

  private static func time(_ time: PostgresMicroseconds) -> String {
    RFC3339.string(microseconds: time, digits: 0)
  }

  /// `2 d 3 h`, `5 min`: the two largest units.
  static func span(seconds: UInt64) -> String {
    switch seconds {
    case 0..<60: "\(seconds) s"
    case 60..<3600: "\(seconds / 60) min"
    case 3600..<86_400: "\(seconds / 3600) h \(seconds / 60 % 60) min"
    default: "\(seconds / 86_400) d \(seconds / 3600 % 24) h"
    }
  }

  var json: JSONValue {
    func reach(_ reach: Reach?) -> JSONValue {
      guard let reach else { return .null }
      return .object([
        .init("lsn", .text("\(reach.lsn)")), .init("time", .optional(reach.time.map(Self.time))),
      ])
    }
    func left(_ slot: SlotOverview?) -> JSONValue { secondsLeft(slot).map { .unsigned($0) } ?? .null }
    return .object([
      .init("anchor", anchor?.json ?? .null),
      .init("from_wal", reach(fromWAL)),
      .init("from_table", reach(fromTable)),
      .init("wal_bytes_per_second", walRate.map { .unsigned($0) } ?? .null),
      .init("slot_seconds_left", left(main)),
      .init("anchor_seconds_left", left(anchor)),
      .init(
        "unfinished_jobs",
        .array(
          jobs.map {
            .object([
              .init("id", .integer($0.id)), .init("command", .text($0.command)),
              .init("events", .integer($0.events)), .init("started_at", .text(Self.time($0.startedAt))),
              .init("updated_at", .text(Self.time($0.updatedAt))),
            ])
          })),
    ])
  }
}
