// Owns: every counter and gauge of the process. Written once a turn of the loop, read by the admin server.
// Must not know: Prometheus' text format; the admin server's table has names, types and help.
public import Synchronization

/// Counters since the start of the process, and gauges. Each value is an atomic of its own: a reader may
/// see two values of different turns, never a torn one.
public final class RelayMetrics: Sendable {
  public enum Role: Int, Sendable { case starting = 0, active = 1, standby = 2, stopping = 3, halted = 4 }

  /// Upper bounds of the latency histogram's buckets, in microseconds.
  public static let latencyBounds: [Int64] = [
    500, 1_000, 2_000, 3_000, 5_000, 7_500, 10_000, 15_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
  ]

  // Counters.
  public let eventsReceived = Atomic<UInt64>(0)
  public let eventsDelivered = Atomic<UInt64>(0)
  /// Of transactions that end at or below the checkpoint that the store was handed last.
  public let eventsSettled = Atomic<UInt64>(0)
  public let eventsResent = Atomic<UInt64>(0)
  /// Not sent, since Kafka had them already.
  public let eventsRecognized = Atomic<UInt64>(0)
  /// Not sent, since they were not asked for.
  public let eventsUnselected = Atomic<UInt64>(0)
  public let transactions = Atomic<UInt64>(0)
  public let ignoredUpdates = Atomic<UInt64>(0)
  public let ignoredTruncates = Atomic<UInt64>(0)
  public let headersLeftOut = Atomic<UInt64>(0)
  public let eventsWithoutKey = Atomic<UInt64>(0)
  public let receivedBytes = Atomic<UInt64>(0)
  public let queueFull = Atomic<UInt64>(0)
  public let producerRebuilds = Atomic<UInt64>(0)
  /// Streams that began again after one had ended.
  public let sourceReconnects = Atomic<UInt64>(0)
  /// How often a broker was connected again after none was.
  public let sinkReconnects = Atomic<UInt64>(0)
  public let logLinesDropped = Atomic<UInt64>(0)
  public let rowsRejected = Atomic<UInt64>(0)
  public let recordsRejected = Atomic<UInt64>(0)
  public let journalWrites = Atomic<UInt64>(0)
  public let journalFailures = Atomic<UInt64>(0)

  // Gauges.
  public let role = Atomic<Int>(Role.starting.rawValue)
  public let postgresConnected = Atomic<Bool>(false)
  /// The number of brokers with a connection that is up.
  public let kafkaBrokersUp = Atomic<Int>(0)
  public let inFlightEvents = Atomic<Int>(0)
  public let inFlightBytes = Atomic<Int>(0)
  public let inFlightTransactions = Atomic<Int>(0)
  public let receivedLSN = Atomic<UInt64>(0)
  /// The ledger's checkpoint: everything that ends at or below it is acknowledged.
  public let acknowledgedLSN = Atomic<UInt64>(0)
  public let journaledLSN = Atomic<UInt64>(0)
  /// What the slot was told.
  public let confirmedLSN = Atomic<UInt64>(0)
  /// Commit time of the oldest transaction that is not acknowledged; `Int64.max` when there is none.
  public let oldestUnacknowledged = Atomic<Int64>(.max)
  /// Wall clock, microseconds since 2000; 0 when nothing was delivered yet.
  public let lastDelivery = Atomic<Int64>(0)
  /// Monotonic nanoseconds of the last turn of the relay's thread, or of the time when it turns again at the latest:
  /// what `/livez` looks at.
  public let lastTurn = Atomic<UInt64>(0)
  /// Monotonic nanoseconds since when something is acknowledged that is not confirmed; 0: nothing is.
  public let unconfirmedSince = Atomic<UInt64>(0)
  /// Whether a broker was ever connected.
  public let hasReachedSink = Atomic<Bool>(false)

  /// Commit to acknowledge: the count of each bucket of `latencyBounds`, and one more for what is above.
  public let latency: LatencyHistogram
  private let shared = Mutex(Shared())

  private struct Shared {
    var hold: String?
    var sinkFault: String?
    var fault: RelayError?
    var busyWith: String?
    var watchFault: String?
    var slot: SlotReading?
    var anchor: AnchorReading?
    var topics: [String: UInt64] = [:]
  }

  /// The relay's thread is there, and is again at `time` at the latest.
  public func turned(until time: MonotonicTime = .now()) {
    lastTurn.store(time.nanoseconds, ordering: .relaxed)
  }

  public init() {
    latency = LatencyHistogram()
  }

  /// Why a record waits at a gate although the stream runs: a topic is missing, or Kafka is compared with. Nil: none does.
  public var hold: String? {
    get { shared.withLock { $0.hold } }
    set { shared.withLock { $0.hold = newValue } }
  }

  /// Shows `reason` while `body`, which may take long, runs.
  public func holding<Value, Failure>(
    for reason: String, _ body: () throws(Failure) -> Value
  ) throws(Failure) -> Value {
    let shown = hold
    hold = shown ?? reason
    defer { hold = shown }
    return try body()
  }

  /// Why records that were sent wait, and those that come would: no broker is reachable, none acknowledges. Nil: they do
  /// not.
  public var sinkFault: String? {
    get { shared.withLock { $0.sinkFault } }
    set { shared.withLock { $0.sinkFault = newValue } }
  }

  /// Why events do not flow although the stream runs, the cause first. Empty: they do.
  public var waits: [String] {
    let (hold, sinkFault) = shared.withLock { ($0.hold, $0.sinkFault) }
    let reasons = [hold, sinkFault == hold ? nil : sinkFault].compactMap(\.self)
    // Nobody gets an answer from a broker that cannot be reached.
    return kafkaBrokersUp.load(ordering: .relaxed) == 0 ? reasons.reversed() : reasons
  }

  /// Why there is no stream now. Nil: there is one.
  public var fault: RelayError? {
    get { shared.withLock { $0.fault } }
    set { shared.withLock { $0.fault = newValue } }
  }

  /// What is waited for before there is a stream: "the slot is being created". Nil: nothing.
  public var busyWith: String? {
    get { shared.withLock { $0.busyWith } }
    set { shared.withLock { $0.busyWith = newValue } }
  }

  /// Why the second connection to Postgres does not do its work. Nil: it does.
  public var watchFault: String? {
    get { shared.withLock { $0.watchFault } }
    set { shared.withLock { $0.watchFault = newValue } }
  }

  /// The slot as it was read last, however long ago.
  public var slot: SlotReading? {
    get { shared.withLock { $0.slot } }
    set { shared.withLock { $0.slot = newValue } }
  }

  /// The same of the anchor.
  public var anchor: AnchorReading? {
    get { shared.withLock { $0.anchor } }
    set { shared.withLock { $0.anchor = newValue } }
  }

  /// Events delivered for each topic; topics beyond the sink's cap are summed as `other`.
  public var topics: [String: UInt64] {
    get { shared.withLock { $0.topics } }
    set { shared.withLock { $0.topics = newValue } }
  }
}

/// A histogram that one thread fills and others read.
public final class LatencyHistogram: Sendable {
  private struct Counts {
    var buckets = [UInt64](repeating: 0, count: RelayMetrics.latencyBounds.count + 1)
    var sum: UInt64 = 0
  }
  private let counts = Mutex(Counts())

  /// Adds what one turn of the loop has gathered: counts by bucket, and the sum in microseconds.
  public func add(buckets: UnsafeBufferPointer<UInt64>, sum: UInt64) {
    counts.withLock { counts in
      for index in 0..<min(buckets.count, counts.buckets.count) { counts.buckets[index] &+= buckets[index] }
      counts.sum &+= sum
    }
  }

  /// Counts by bucket, not cumulative, and the sum in microseconds.
  public var snapshot: (buckets: [UInt64], sum: UInt64) {
    counts.withLock { ($0.buckets, $0.sum) }
  }
}
