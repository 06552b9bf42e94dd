// Owns: what is known of the connection to Kafka, and what of it stands in the metrics: brokers up, the
// reason why what was sent waits, the reason why Kafka refuses outboxd.
// Must not know: records and topics.
import CRdkafka
import RelayCore
import Synchronization

struct KafkaHealth {
  /// How long a client that was connected before may be refused until its secrets are read again.
  static let denialGrace = 10_000
  /// How long records may be in flight without any acknowledgement, in milliseconds.
  static let acknowledgementTime = 10_000
  /// How long no broker may be connected until that is an outage, in milliseconds.
  static let reconnectionTime = 2_000

  private let metrics: RelayMetrics
  private let mechanism: String
  private(set) var brokersUp = 0
  private var wasConnected = false
  /// When it was first seen that no broker is connected.
  private var disconnection: MonotonicTime?
  private var transport: String?
  private var certificate: String?
  private var denial: (error: RelayError, since: MonotonicTime)?
  private var publishedFault: String?
  /// Records in flight, and for how many seconds none was acknowledged. Nil: that is not long.
  private var stall: (events: Int, seconds: Int)?

  init(metrics: RelayMetrics, mechanism: String) {
    self.metrics = metrics
    self.mechanism = mechanism
    metrics.kafkaBrokersUp.store(0, ordering: .relaxed)
  }

  /// A broker has answered.
  mutating func noteAnswer() {
    guard brokersUp == 0 else { return }
    noteUp(1)
  }

  private mutating func noteUp(_ count: Int) {
    brokersUp = count
    wasConnected = true
    disconnection = nil
    denial = nil
    transport = nil
  }

  /// Takes how many brokers are connected. None for a while is what counts: between the end of an idle connection
  /// and the next one there may be none for a moment.
  mutating func note(connected count: Int, now: MonotonicTime) {
    if count > 0 { return noteUp(count) }
    let since = disconnection ?? now
    disconnection = since
    if now >= since.advanced(milliseconds: Self.reconnectionTime) { brokersUp = 0 }
  }

  /// Takes an error event that is not fatal.
  mutating func note(_ code: rd_kafka_resp_err_t, reason: String, now: MonotonicTime) {
    let reason = Self.withoutGuess(reason)
    switch code {
    case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN: return
    case _ where KafkaFailure(code).kind == .sinkDenied || reason.contains("SSL alert"):
      let error = KafkaFailure.denied(code, reason: reason, mechanism: mechanism, certificate: certificate)
      denial = (error, denial?.since ?? now)
    default: break
    }
    transport = reason
  }

  /// librdkafka blames a broker that hangs for its age.
  private static func withoutGuess(_ reason: String) -> String {
    reason.replacing(
      "probably due to broker version < 0.10 (see api.version.request configuration)",
      with: "the broker accepted the connection and does not answer")
  }

  /// Takes how many records are in flight, and since when none was acknowledged.
  mutating func note(unacknowledged events: Int, since: MonotonicTime, now: MonotonicTime) {
    guard events > 0, now >= since.advanced(milliseconds: Self.acknowledgementTime) else {
      stall = nil
      return
    }
    stall = (events, since.milliseconds(until: now, limit: .max) / 1000)
  }

  /// True where brokers are connected, and do not acknowledge what they were sent.
  var isStalled: Bool { stall != nil && brokersUp > 0 }

  /// Takes the reason that `CertificateReason` has written to librdkafka's log.
  mutating func note(logLine line: String) {
    guard line.contains("certificate"),
      let range = line.firstRange(of: "the broker's certificate")
    else { return }
    certificate = String(line[range.lowerBound...])
  }

  /// The refusal that only a new producer, with its secrets read again, can overcome.
  func refusal(now: MonotonicTime) -> RelayError? {
    guard brokersUp == 0, let denial else { return nil }
    let isDue = !wasConnected || now >= denial.since.advanced(milliseconds: Self.denialGrace)
    return isDue ? denial.error : nil
  }

  /// Why no broker can be reached, for a message.
  var reason: String {
    denial?.error.message ?? transport ?? "no broker has answered yet"
  }

  /// Records that come while no broker is there would wait, so that is a hold also before they do.
  mutating func publish() {
    let up = metrics.kafkaBrokersUp.load(ordering: .relaxed)
    if up != brokersUp { metrics.kafkaBrokersUp.store(brokersUp, ordering: .relaxed) }
    if up == 0, brokersUp > 0, metrics.hasReachedSink.exchange(true, ordering: .relaxed) {
      metrics.sinkReconnects.wrappingAdd(1, ordering: .relaxed)
    }
    let fault =
      brokersUp == 0
      ? Self.awayText(reason)
      : stall.map { Self.stallText(events: $0.events, seconds: $0.seconds, brokers: brokersUp) }
    guard fault != publishedFault else { return }
    publishedFault = fault
    metrics.sinkFault = fault
  }

  static func stallText(events: Int, seconds: Int, brokers: Int) -> String {
    "Kafka has not acknowledged \(events) event\(events == 1 ? "" : "s") for \(seconds) s: \(brokers) "
      + "broker\(brokers == 1 ? " is" : "s are") connected, but the leaders of the partitions do not answer, or wait "
      + "for replicas"
  }

  static func awayText(_ reason: String) -> String { "cannot reach any Kafka broker: \(reason)" }

  /// Whether a line of librdkafka's log says what a refusal says again.
  static func isRefusal(logLine line: String) -> Bool {
    line.contains("SASL") && line.contains("in state AUTH")
  }

  /// The producer is gone.
  func withdraw() {
    metrics.kafkaBrokersUp.store(0, ordering: .relaxed)
    if publishedFault != nil { metrics.sinkFault = nil }
  }
}
