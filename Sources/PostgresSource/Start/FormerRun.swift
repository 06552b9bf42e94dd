// Owns: what a process of `outboxd run` leaves for the next one of its slot, in a row of `outboxd.job`.
// Must not know: what follows from it.
public import RelayCore

/// The process that streamed from the slot before this one, as far as it is known.
public struct FormerRun: Equatable, Sendable {
  /// What its events were made by, as text. Nil: not known.
  public var outboxes: String?
  /// Nothing was sent beyond this place, and it is the journal's checkpoint. Nil: it did not end so.
  public var settledAt: LSN?
}

/// How one process is told from another.
struct RunEntry: Sendable {
  let id = String(UInt64.random(in: 0 ... .max), radix: 16)
  let outboxes: String
}

extension CheckpointJournal {
  private var isRun: String { "slot = \(SQLText.literal(slot)) AND command = 'run'" }

  /// The process is the one that streams from the slot now. To be called once it does, and before anything is sent: from
  /// here on its place is not settled.
  /// - Returns: nil where nothing is known of another process before this one.
  func begin(_ run: RunEntry, in checkpoint: Checkpoint) throws(RelayError) -> FormerRun? {
    let request =
      "jsonb_build_object('run', \(SQLText.literal(run.id)), 'outboxes', \(SQLText.literal(run.outboxes)))"
    let former = try connection.query(
      """
      WITH former AS (SELECT id, request FROM outboxd.job WHERE \(isRun) ORDER BY id DESC LIMIT 1),
      entered AS (
        INSERT INTO outboxd.job (slot, command, request, finished_at)
        SELECT \(SQLText.literal(slot)), 'run', \(request), clock_timestamp() WHERE NOT EXISTS (SELECT FROM former)),
      taken AS (
        UPDATE outboxd.job SET request = \(request), started_at = clock_timestamp(), updated_at = clock_timestamp(),
          finished_at = clock_timestamp()
        FROM former WHERE job.id = former.id)
      SELECT request ->> 'outboxes' AS outboxes, request ->> 'run' = \(SQLText.literal(run.id)) AS same,
        CASE WHEN request ->> 'system_identifier' = '\(checkpoint.systemIdentifier)'
          AND request ->> 'timeline' = '\(checkpoint.timeline)' THEN request ->> 'settled' END AS settled
      FROM former
      """)
    guard !former.rows.isEmpty, former[0, "same"] != "t" else { return nil }
    return FormerRun(
      outboxes: former[0, "outboxes"], settledAt: former[0, "settled"].flatMap { LSN($0) })
  }

  /// The process sends nothing more, and has sent nothing beyond `checkpoint`, which the journal has.
  func settle(_ run: RunEntry, at checkpoint: Checkpoint) throws(RelayError) {
    try connection.query(
      """
      UPDATE outboxd.job SET updated_at = clock_timestamp(), request = request || jsonb_build_object(
        'settled', '\(checkpoint.lsn)', 'system_identifier', '\(checkpoint.systemIdentifier)',
        'timeline', '\(checkpoint.timeline)')
      WHERE \(isRun) AND request ->> 'run' = \(SQLText.literal(run.id))
      """)
  }
}
