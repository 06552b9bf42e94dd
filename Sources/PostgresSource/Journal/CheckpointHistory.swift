// Owns: the questions that the earlier checkpoints in `outboxd.checkpoint_history` answer.
// Must not know: what is replayed, and from where.
import RelayCore

/// An earlier checkpoint of the journal.
struct HistoryRow: Equatable, Sendable {
  /// Everything that ended at or below it was published.
  var lsn: LSN
  /// A `pg_snapshot`: what is visible in it ended at or below `snapshotLSN`. It lists no subtransactions.
  var snapshot: String?
  /// At most `lsn`. Nil in rows of an earlier version; then `lsn` is known to be no lower.
  var snapshotLSN: LSN?
  var recordedAt: PostgresMicroseconds
  var timeline: UInt32
  var systemIdentifier: UInt64

  /// Transactions below it had ended before `lsn`: what committed later has this id, or a higher one.
  var lowestTransaction: UInt64? { snapshot.flatMap(Self.lowest) }

  static func lowest(_ snapshot: String) -> UInt64? { bound(snapshot, 0) }
  static func end(_ snapshot: String) -> UInt64? { bound(snapshot, 1) }

  /// `xmin:xmax:xip,…`
  private static func bound(_ snapshot: String, _ part: Int) -> UInt64? {
    let parts = snapshot.split(separator: ":", omittingEmptySubsequences: false)
    return parts.count == 3 ? UInt64(parts[part]) : nil
  }
}

/// Reads the history of one slot, in one system and on one timeline. The statements are plain text.
struct CheckpointHistory {
  let connection: SQLConnection
  let slot: String
  let systemIdentifier: UInt64
  let timeline: UInt32

  /// The newest row whose checkpoint is at or below `lsn`.
  func newest(atOrBelow lsn: LSN) throws(RelayError) -> HistoryRow? {
    try row("lsn <= '\(lsn)'::pg_lsn", order: "lsn DESC, recorded_at DESC")
  }

  /// The newest row with a snapshot that was taken at or below `lsn`.
  func newest(withSnapshotAtOrBelow lsn: LSN) throws(RelayError) -> HistoryRow? {
    try row(
      "snapshot IS NOT NULL AND coalesce(snapshot_lsn, lsn) <= '\(lsn)'::pg_lsn",
      order: "coalesce(snapshot_lsn, lsn) DESC, recorded_at DESC")
  }

  /// The newest row written at or before `time`.
  func newest(atOrBefore time: PostgresMicroseconds) throws(RelayError) -> HistoryRow? {
    try row("recorded_at <= \(Self.literal(time))", order: "recorded_at DESC, lsn DESC")
  }

  /// The oldest row whose checkpoint is at or above `lsn`.
  func oldest(atOrAbove lsn: LSN) throws(RelayError) -> HistoryRow? {
    try row("lsn >= '\(lsn)'::pg_lsn", order: "lsn, recorded_at")
  }

  /// The oldest row written at or after `time`.
  func oldest(atOrAfter time: PostgresMicroseconds) throws(RelayError) -> HistoryRow? {
    try row("recorded_at >= \(Self.literal(time))", order: "recorded_at, lsn")
  }

  func oldest() throws(RelayError) -> HistoryRow? {
    try row("true", order: "lsn, recorded_at")
  }

  func oldestWithSnapshot() throws(RelayError) -> HistoryRow? {
    try row("snapshot IS NOT NULL", order: "coalesce(snapshot_lsn, lsn), recorded_at")
  }

  /// The oldest row whose snapshot's position is at or above `lsn`. The snapshot was taken before its position was
  /// read: its `xmax` bounds nothing, see `endTransaction`.
  func oldest(withSnapshotLSNAtLeast lsn: LSN) throws(RelayError) -> HistoryRow? {
    try row("snapshot IS NOT NULL AND snapshot_lsn >= '\(lsn)'::pg_lsn", order: "snapshot_lsn, recorded_at")
  }

  /// No transaction that committed at or below `lsn` has this id or a higher one. Nil: no bound is known yet.
  ///
  /// A snapshot's `xmax` is one above the highest transaction that has *ended*, and one whose commit is in the WAL
  /// may still wait for a standby. So the bound is a snapshot taken after a transaction with a higher id has ended:
  /// the journal's own, which wrote the row of the first snapshot at or above `lsn`. The second snapshot may be
  /// older than that write, the third is not.
  func endTransaction(through lsn: LSN) throws(RelayError) -> UInt64? {
    try third("snapshot_lsn >= '\(lsn)'::pg_lsn")?.snapshot.flatMap(HistoryRow.end)
  }

  /// Everything that committed at or before `time` lies below it. Nil: no bound is known yet.
  ///
  /// The position was read after `time`, and a minute later still: a commit has its time before its place.
  func position(after time: PostgresMicroseconds) throws(RelayError) -> LSN? {
    let (later, overflow) = time.addingReportingOverflow(60_000_000)
    guard !overflow else { return nil }
    return try third("recorded_at >= \(Self.literal(later))")?.snapshotLSN
  }

  private func third(_ condition: String) throws(RelayError) -> HistoryRow? {
    try row(
      "snapshot IS NOT NULL AND snapshot_lsn IS NOT NULL AND \(condition)",
      order: "snapshot_lsn, recorded_at",
      distinct: "DISTINCT ON (snapshot_lsn)", offset: 2)
  }

  /// `timestamptz` from microseconds since 2000. A factor of type double keeps them exact until the year 2285.
  static func literal(_ time: PostgresMicroseconds) -> String {
    "(timestamptz '2000-01-01 00:00:00+00' + interval '1 microsecond' * (\(time))::float8)"
  }

  private func row(
    _ condition: String, order: String, distinct: String = "", offset: Int = 0
  ) throws(RelayError) -> HistoryRow? {
    let result = try connection.query(
      """
      SELECT \(distinct) lsn, snapshot, snapshot_lsn, timeline, system_identifier,
        (extract(epoch FROM recorded_at - timestamptz '2000-01-01 00:00:00+00') * 1000000)::bigint AS recorded
      FROM outboxd.checkpoint_history
      WHERE slot = \(SQLText.literal(slot)) AND system_identifier = '\(systemIdentifier)' AND timeline = \(timeline)
        AND \(condition)
      ORDER BY \(order) OFFSET \(offset) LIMIT 1
      """)
    guard let lsn = result[0, "lsn"].flatMap({ LSN($0) }),
      let recordedAt = result[0, "recorded"].flatMap({ Int64($0) }),
      let timeline = result[0, "timeline"].flatMap({ UInt32($0) }),
      let system = result[0, "system_identifier"].flatMap({ UInt64($0) })
    else { return nil }
    return HistoryRow(
      lsn: lsn, snapshot: result[0, "snapshot"], snapshotLSN: result[0, "snapshot_lsn"].flatMap { LSN($0) },
      recordedAt: recordedAt, timeline: timeline, systemIdentifier: system)
  }
}
