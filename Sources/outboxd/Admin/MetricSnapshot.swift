// Owns: what the metrics are read from, for one scrape.
// Must not know: which metrics there are.
import RelayCore
import Synchronization

/// What the metrics are read from, for one scrape.
struct MetricSnapshot: Sendable {
  var metrics: RelayMetrics
  var info: AdminInfo
  var process: ProcessStatistics?
  /// The wall clock.
  var now: PostgresMicroseconds
  var time = MonotonicTime.now()

  static func take(_ metrics: RelayMetrics, _ info: AdminInfo, at time: MonotonicTime) -> MetricSnapshot {
    MetricSnapshot(metrics: metrics, info: info, process: .read(), now: postgresNow(), time: time)
  }

  /// Nil where the last reading is too old to be told.
  var slot: SlotReading? { metrics.slot.flatMap { $0.isCurrent(at: time) ? $0 : nil } }
  var anchor: AnchorReading? { metrics.anchor.flatMap { $0.isCurrent(at: time) ? $0 : nil } }

  /// While the slot cannot be read the stream knows how far it has come; the server's end may lie further on.
  var slotLagBytes: Int64? {
    if let slot { return slot.lagBytes }
    let confirmed = metrics.confirmedLSN.load(ordering: .relaxed)
    guard metrics.postgresConnected.load(ordering: .relaxed), confirmed > 0 else { return nil }
    let received = metrics.receivedLSN.load(ordering: .relaxed)
    return Int64(clamping: received > confirmed ? received - confirmed : 0)
  }

  /// Since when something waits to be confirmed; 0 where nothing does.
  var unconfirmedSeconds: Double {
    let since = metrics.unconfirmedSince.load(ordering: .relaxed)
    return since == 0 || since > time.nanoseconds ? 0 : Double(time.nanoseconds - since) / 1e9
  }

  /// Time since the commit of the oldest transaction that Kafka has not acknowledged; 0 when there is none.
  var oldestUndeliveredSeconds: Double {
    let oldest = metrics.oldestUnacknowledged.load(ordering: .relaxed)
    if oldest == .max || oldest == .unknown { return 0 }
    // Commit times are the server's word, at the extremes too.
    let (age, overflow) = now.subtractingReportingOverflow(oldest)
    return Double(overflow ? (oldest < 0 ? .max : 0) : max(0, age)) / 1_000_000
  }
}
