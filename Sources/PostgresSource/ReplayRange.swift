// Owns: planning a replay and opening its range of WAL, on connections of their own.
// Must not know: Kafka, the loop, the command line.
public import RelayCore

extension PostgresSource {
  /// Reads what the server still has, and decides what a replay of the range is read from. Moves nothing.
  /// - Parameters:
  ///   - to: nil: everything that was published when this is called.
  ///   - origin: nil: the WAL where it has the whole range, else the tables.
  /// - Throws: `usage` where the range makes no sense; `replayUnavailable`, with the lowest place that can be had,
  ///   where nothing has the range; `slotMissing`, `journalUnusable`, `systemIdentifierChanged`, `timelineDiverged`;
  ///   and what connections throw.
  public static func planReplay(
    settings: PostgresSettings, mappings: [OutboxMapping], from: ReplayPlace, to: ReplayPlace?,
    origin: ReplayOrigin?, stop: StopSignal
  ) throws(RelayError) -> ReplayPlan {
    throw RelayError(.failed, "not there yet")
  }

  /// Copies the anchor to a temporary slot, and starts a stream of the plan's range on it.
  /// - Parameter position: of `BoundedSource.position(after:)`; nil: from the beginning.
  /// - Throws: `replayUnavailable`, `sourceUnavailable`, `systemIdentifierChanged`, `timelineDiverged`, `usage`
  ///   where `position` is none.
  public static func openRange(
    _ plan: ReplayPlan, resume position: String?, settings: PostgresSettings, mappings: [OutboxMapping],
    stop: StopSignal, log: Log
  ) throws(RelayError) -> RangeStream {
    throw RelayError(.failed, "not there yet")
  }
}
