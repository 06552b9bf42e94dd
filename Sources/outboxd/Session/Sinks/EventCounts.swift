// Owns: what a dry run counts: records by topic, and events by source and type, with their span.
// Must not know: where records come from.
import RelayCore

/// What a dry run found.
struct EventCounts: Equatable, Sendable {
  var records: UInt64 = 0
  var bytes: UInt64 = 0
  var topics: [String: UInt64] = [:]
  var sources: [String: UInt64] = [:]
  var types: [String: UInt64] = [:]
  /// The events' own times.
  var firstTime: PostgresMicroseconds?
  var lastTime: PostgresMicroseconds?
  /// Commit LSNs, where events have a `sequence`.
  var firstLSN: LSN?
  var lastLSN: LSN?

  mutating func add(_ record: Record) {
    records += 1
    bytes += UInt64((record.key?.count ?? 0) + (record.value?.count ?? 0))
    topics[String(decoding: record.topic, as: UTF8.self), default: 0] += 1
    sources[EventShape.text(of: .source, in: record) ?? "unknown", default: 0] += 1
    types[EventShape.text(of: .type, in: record) ?? "unknown", default: 0] += 1
    if let text = EventShape.text(of: .time, in: record), let time = try? RFC3339.parse(text) {
      firstTime = min(firstTime ?? time, time)
      lastTime = max(lastTime ?? time, time)
    }
    if let lsn = EventSequence(of: record)?.commitLSN {
      firstLSN = min(firstLSN ?? lsn, lsn)
      lastLSN = max(lastLSN ?? lsn, lsn)
    }
  }
}
