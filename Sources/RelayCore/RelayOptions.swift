// Owns: in what a run may differ from the live stream: which events, to which topic, with which mark.
// Must not know: the command line, where rows come from.

/// What a replay or a backfill changes. The defaults are the live stream's.
public struct RelayOptions: Equatable, Sendable {
  /// The value of the Kafka header `outboxd-replay`, which is no part of the event. Nil: no such header.
  public var replayMark: String?
  /// The topic of every record, in place of the mapping's: 1 to 249 of `[A-Za-z0-9._-]`. Nil: the mapping's.
  public var topic: String?
  /// Nil: every event.
  public var selection: EventSelection?
  /// False where rows come from a table, which knows no commit LSN: events then have no `sequence`.
  public var hasPositions = true
  /// Events a second, from 1 to 10⁹. Nil: as fast as it goes.
  public var rate: Int?
  /// False where each round of reading ends in `poll(2)`: nothing gathers.
  public var isAdaptive = true

  public init(
    replayMark: String? = nil, topic: String? = nil, selection: EventSelection? = nil,
    hasPositions: Bool = true, rate: Int? = nil, isAdaptive: Bool = true
  ) {
    self.replayMark = replayMark
    self.topic = topic
    self.selection = selection
    self.hasPositions = hasPositions
    self.rate = rate
    self.isAdaptive = isAdaptive
  }
}
