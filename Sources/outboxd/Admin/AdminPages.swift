// Owns: what the admin server answers to each path.
// Must not know: sockets. It reads counters only: no secret, and nothing of the relay's thread, is in reach.
import RelayCore
import Synchronization

final class AdminPages: Sendable {
  static let roles: [RelayMetrics.Role] = [.starting, .active, .standby, .stopping, .halted]
  /// In milliseconds: the relay's thread turns at least once a second, or says when it turns again.
  static let livenessLimit = 60_000
  /// In seconds: what is confirmed at least every ten.
  private static let confirmationLimit = 30.0

  /// For a Host that `AdminHosts` does not admit.
  static let misdirected = AdminAnswer.text(
    421, "outboxd does not answer requests under this host name: add it to admin.hosts in the configuration")

  private let metrics: RelayMetrics
  private let info: AdminInfo

  init(metrics: RelayMetrics, info: AdminInfo) {
    self.metrics = metrics
    self.info = info
  }

  func answer(method: String, path: String, now: MonotonicTime = .now()) -> AdminAnswer {
    guard method == "GET" || method == "HEAD" else { return .text(405, "outboxd answers only GET and HEAD") }
    switch path {
    case "/": return index(now)
    case "/metrics":
      let snapshot = MetricSnapshot.take(metrics, info, at: now)
      return AdminAnswer(
        status: 200, contentType: MetricsText.contentType,
        body: MetricsText.render(MetricTable.all, snapshot))
    case "/livez": return live(now: now)
    case "/readyz", "/healthz": return ready(now)
    case "/status": return .json(200, status(now))
    default: return .text(404, "no such page; see /")
    }
  }

  /// Whether the relay's thread turns, in every role. An outage of Postgres or Kafka is no reason to be restarted: the
  /// thread turns while it waits for them too.
  private func live(now: MonotonicTime) -> AdminAnswer {
    let lastTurn = MonotonicTime(nanoseconds: metrics.lastTurn.load(ordering: .relaxed))
    let isStuck =
      lastTurn.nanoseconds != 0 && lastTurn.advanced(milliseconds: Self.livenessLimit) < now
    guard isStuck else { return .json(200, .object([.init("live", .boolean(true))])) }
    let seconds = (now.nanoseconds - lastTurn.nanoseconds) / 1_000_000_000
    return .json(
      503,
      .object([
        .init("live", .boolean(false)),
        .init("reason", .text("the relay's thread has not responded for \(seconds) s (\(role))")),
      ]))
  }

  private func ready(_ now: MonotonicTime) -> AdminAnswer {
    let reasons = reasons(now)
    guard !reasons.isEmpty else { return .json(200, .object([.init("ready", .boolean(true))])) }
    return .json(
      503,
      .object([.init("ready", .boolean(false)), .init("reasons", .array(reasons.map { .text($0) }))]))
  }

  private var role: RelayMetrics.Role {
    RelayMetrics.Role(rawValue: metrics.role.load(ordering: .relaxed)) ?? .starting
  }

  /// Why events do not flow. Empty: they do.
  private func reasons(_ now: MonotonicTime) -> [String] {
    var reasons: [String] = []
    let fault = metrics.fault
    switch role {
    case .active: break
    case .standby: reasons.append("standby: another outboxd streams from the slot \(info.slot)")
    case .starting, .stopping, .halted: reasons.append("\(role)")
    }
    // Without a producer there is no stream either: the reason is Kafka's.
    if role != .standby, !metrics.postgresConnected.load(ordering: .relaxed),
      fault?.kind.reaction != .rebuildSink
    {
      reasons.append("Postgres is not connected")
    }
    reasons += metrics.waits
    if let busyWith = metrics.busyWith { reasons.append(busyWith) }
    if let fault, role != .standby { reasons.append(fault.description) }
    if role == .active { reasons += staleReasons(now) }
    return reasons
  }

  /// What is not known now, or not confirmed, although the stream runs.
  private func staleReasons(_ now: MonotonicTime) -> [String] {
    var reasons: [String] = []
    let because = metrics.watchFault.map { ": \($0)" } ?? ""
    if let slot = metrics.slot, !slot.isCurrent(at: now) {
      reasons.append(
        "the second connection last read the slot \(Int(slot.age(at: now))) s ago\(because)")
    }
    let snapshot = MetricSnapshot(metrics: metrics, info: info, process: nil, now: 0, time: now)
    if snapshot.unconfirmedSeconds > Self.confirmationLimit {
      reasons.append(
        "nothing has been confirmed to Postgres for \(Int(snapshot.unconfirmedSeconds)) s, because the journal is not "
          + "written\(because)")
    }
    if let anchor = metrics.anchor, !anchor.isCurrent(at: now) {
      reasons.append("the second connection last read the anchor \(Int(anchor.age(at: now))) s ago")
    }
    return reasons
  }

  // MARK: /status

  private func status(_ now: MonotonicTime) -> JSONValue {
    let reasons = reasons(now)
    let snapshot = MetricSnapshot(metrics: metrics, info: info, process: nil, now: postgresNow(), time: now)
    return .object([
      .init("version", .text(info.version)),
      .init("role", .text("\(role)")),
      .init("ready", .boolean(reasons.isEmpty)),
      .init("reasons", .array(reasons.map { .text($0) })),
      .init("hold", .optional(metrics.waits.first)),
      .init("fault", fault),
      .init("postgres", postgres(snapshot)),
      .init(
        "kafka",
        .object([
          .init("brokers_connected", .integer(Int64(metrics.kafkaBrokersUp.load(ordering: .relaxed)))),
          .init("reconnects", .unsigned(metrics.sinkReconnects.load(ordering: .relaxed))),
          .init("producer_rebuilds", .unsigned(metrics.producerRebuilds.load(ordering: .relaxed))),
        ])),
      .init("lsn", positions),
      .init("events", events(snapshot)),
    ])
  }

  private var fault: JSONValue {
    guard let fault = metrics.fault else { return .null }
    return .object([
      .init("kind", .text(fault.kind.rawValue)), .init("message", .text(fault.message)),
      .init("code", .optional(fault.code)), .init("remedy", .optional(fault.remedy)),
    ])
  }

  private func postgres(_ snapshot: MetricSnapshot) -> JSONValue {
    func known(_ value: Int64?) -> JSONValue { value.map { .integer($0) } ?? .null }
    func age(_ reading: (any TimedReading)?) -> JSONValue {
      reading.map { .number($0.age(at: snapshot.time)) } ?? .null
    }
    return .object([
      .init("connected", .boolean(metrics.postgresConnected.load(ordering: .relaxed))),
      .init("database", .optional(info.database)),
      .init("slot", .text(info.slot)),
      .init("wal_status", .optional(snapshot.slot?.walStatus)),
      .init("slot_lag_bytes", known(snapshot.slotLagBytes)),
      .init("slot_retained_bytes", known(snapshot.slot?.retainedBytes)),
      .init("slot_safe_wal_bytes", known(snapshot.slot?.safeBytes)),
      .init("slot_reading_age_seconds", age(metrics.slot)),
      .init("anchor_retained_bytes", known(snapshot.anchor?.retainedBytes)),
      .init("anchor_reading_age_seconds", age(metrics.anchor)),
      .init("second_connection_fault", .optional(metrics.watchFault)),
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

  private func events(_ snapshot: MetricSnapshot) -> JSONValue {
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
      .init("unconfirmed_age_seconds", .number(snapshot.unconfirmedSeconds)),
      .init("last_delivery", last == 0 ? .null : .text(RFC3339.string(microseconds: last, digits: 3))),
    ])
  }

  // MARK: /

  private func index(_ now: MonotonicTime) -> AdminAnswer {
    let reasons = reasons(now)
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
