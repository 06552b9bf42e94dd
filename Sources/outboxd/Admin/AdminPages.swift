// Owns: what the admin server answers to each path.
// Must not know: sockets. It reads counters only: no secret, and nothing of the relay's thread, is in reach.
import RelayCore
import Synchronization

struct AdminAnswer: Equatable, Sendable {
  var status: UInt32
  var contentType: String
  var body: String

  static func text(_ status: UInt32, _ body: String) -> AdminAnswer {
    AdminAnswer(status: status, contentType: "text/plain; charset=utf-8", body: body + "\n")
  }

  static func json(_ status: UInt32, _ value: JSONValue) -> AdminAnswer {
    AdminAnswer(status: status, contentType: "application/json", body: value.pretty)
  }
}

final class AdminPages: Sendable {
  static let roles: [RelayMetrics.Role] = [.starting, .active, .standby, .stopping, .halted]
  /// In milliseconds: an active relay turns at least once a second.
  static let livenessLimit = 60_000

  private let metrics: RelayMetrics
  private let info: AdminInfo

  init(metrics: RelayMetrics, info: AdminInfo) {
    self.metrics = metrics
    self.info = info
  }

  func answer(method: String, path: String, now: MonotonicTime = .now()) -> AdminAnswer {
    guard method == "GET" || method == "HEAD" else { return .text(405, "only GET and HEAD are answered") }
    switch path {
    case "/": return index()
    case "/metrics":
      let snapshot = MetricSnapshot.take(metrics, info)
      return AdminAnswer(
        status: 200, contentType: MetricsText.contentType,
        body: MetricsText.render(MetricTable.all, snapshot))
    case "/livez": return live(now: now)
    case "/readyz", "/healthz": return ready()
    case "/status": return .json(200, status())
    default: return .text(404, "there is no such page; see /")
    }
  }

  /// Whether the loop turns. An outage of Postgres or Kafka is no reason to be restarted: between sessions,
  /// and while something else is known to be wrong, nobody expects a turn.
  private func live(now: MonotonicTime) -> AdminAnswer {
    let lastTurn = MonotonicTime(nanoseconds: metrics.lastTurn.load(ordering: .relaxed))
    let isStuck =
      role == .active && metrics.fault == nil && lastTurn.nanoseconds != 0
      && lastTurn.advanced(milliseconds: Self.livenessLimit) < now
    return isStuck
      ? .json(
        503,
        .object([.init("live", .boolean(false)), .init("reason", .text("the relay's loop stands still"))]))
      : .json(200, .object([.init("live", .boolean(true))]))
  }

  private func ready() -> AdminAnswer {
    let reasons = self.reasons
    guard !reasons.isEmpty else { return .json(200, .object([.init("ready", .boolean(true))])) }
    return .json(
      503,
      .object([.init("ready", .boolean(false)), .init("reasons", .array(reasons.map { .text($0) }))]))
  }

  private var role: RelayMetrics.Role {
    RelayMetrics.Role(rawValue: metrics.role.load(ordering: .relaxed)) ?? .starting
  }

  /// Why events do not flow. Empty: they do.
  private var reasons: [String] {
    var reasons: [String] = []
    switch role {
    case .active: break
    case .standby: reasons.append("standby: another outboxd streams from the slot \(info.slot)")
    case .starting, .stopping, .halted: reasons.append("\(role)")
    }
    if role != .standby, !metrics.postgresConnected.load(ordering: .relaxed) {
      reasons.append("Postgres is not connected")
    }
    if let hold = metrics.hold { reasons.append(hold) }
    if let fault = metrics.fault, role != .standby { reasons.append(fault.description) }
    return reasons
  }

  // MARK: /status

  private func status() -> JSONValue {
    let reasons = self.reasons
    return .object([
      .init("version", .text(info.version)),
      .init("role", .text("\(role)")),
      .init("ready", .boolean(reasons.isEmpty)),
      .init("reasons", .array(reasons.map { .text($0) })),
      .init("hold", .optional(metrics.hold)),
      .init("fault", fault),
      .init("postgres", postgres),
      .init(
        "kafka",
        .object([
          .init("brokers_connected", .integer(Int64(metrics.kafkaBrokersUp.load(ordering: .relaxed)))),
          .init("producer_rebuilds", .unsigned(metrics.producerRebuilds.load(ordering: .relaxed))),
        ])),
      .init("lsn", positions),
      .init("events", events),
      .init("libraries", .object(info.libraries.map { .init($0.name, .text($0.version)) })),
    ])
  }

  private var fault: JSONValue {
    guard let fault = metrics.fault else { return .null }
    return .object([
      .init("kind", .text(fault.kind.rawValue)), .init("message", .text(fault.message)),
      .init("code", .optional(fault.code)), .init("remedy", .optional(fault.remedy)),
    ])
  }

  private var postgres: JSONValue {
    func known(_ value: Int64) -> JSONValue { value < 0 ? .null : .integer(value) }
    let walStatus = metrics.walStatus
    return .object([
      .init("connected", .boolean(metrics.postgresConnected.load(ordering: .relaxed))),
      .init("database", .optional(info.database)),
      .init("slot", .text(info.slot)),
      .init("publication", .text(info.publication)),
      .init("wal_status", walStatus.isEmpty ? .null : .text(walStatus)),
      .init("slot_lag_bytes", known(metrics.slotLagBytes.load(ordering: .relaxed))),
      .init("slot_retained_bytes", known(metrics.slotRetainedBytes.load(ordering: .relaxed))),
      .init("slot_safe_wal_bytes", known(metrics.slotSafeBytes.load(ordering: .relaxed))),
      .init("anchor_retained_bytes", known(metrics.anchorRetainedBytes.load(ordering: .relaxed))),
      .init("reconnects", .unsigned(metrics.sourceReconnects.load(ordering: .relaxed))),
    ])
  }

  private var positions: JSONValue {
    func text(_ value: UInt64) -> JSONValue { value == 0 ? .null : .text(LSN(value).description) }
    return .object([
      .init("received", text(metrics.receivedLSN.load(ordering: .relaxed))),
      .init("delivered", text(metrics.acknowledgedLSN.load(ordering: .relaxed))),
      .init("journaled", text(metrics.journaledLSN.load(ordering: .relaxed))),
      .init("confirmed", text(metrics.confirmedLSN.load(ordering: .relaxed))),
    ])
  }

  private var events: JSONValue {
    let snapshot = MetricSnapshot(metrics: metrics, info: info, process: nil, now: postgresNow())
    let last = metrics.lastDelivery.load(ordering: .relaxed)
    return .object([
      .init("received", .unsigned(metrics.eventsReceived.load(ordering: .relaxed))),
      .init("delivered", .unsigned(metrics.eventsDelivered.load(ordering: .relaxed))),
      .init("resent", .unsigned(metrics.eventsResent.load(ordering: .relaxed))),
      .init("recognized", .unsigned(metrics.eventsRecognized.load(ordering: .relaxed))),
      .init("in_flight", .integer(Int64(metrics.inFlightEvents.load(ordering: .relaxed)))),
      .init("in_flight_bytes", .integer(Int64(metrics.inFlightBytes.load(ordering: .relaxed)))),
      .init("transactions", .unsigned(metrics.transactions.load(ordering: .relaxed))),
      .init("oldest_undelivered_age_seconds", .number(snapshot.oldestUndeliveredSeconds)),
      .init("last_delivery", last == 0 ? .null : .text(RFC3339.string(microseconds: last, digits: 3))),
    ])
  }

  // MARK: /

  private func index() -> AdminAnswer {
    let links = ["/metrics", "/status", "/readyz", "/livez"].map { "<li><a href=\"\($0)\">\($0)</a></li>" }
    let state = reasons.isEmpty ? "ready" : "not ready: " + reasons.joined(separator: "; ")
    let body = """
      <!doctype html>
      <meta charset="utf-8"><title>outboxd \(Self.escaped(info.slot))</title>
      <h1>outboxd \(Self.escaped(info.version))</h1>
      <p>slot \(Self.escaped(info.slot)), \(role), \(Self.escaped(state))</p>
      <ul>\(links.joined())</ul>

      """
    return AdminAnswer(status: 200, contentType: "text/html; charset=utf-8", body: body)
  }

  private static func escaped(_ text: String) -> String {
    var result = ""
    for character in text {
      switch character {
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      case "\"": result += "&quot;"
      default: result.append(character)
      }
    }
    return result
  }
}
