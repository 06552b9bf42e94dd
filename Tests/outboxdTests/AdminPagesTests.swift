// Owns: what the admin pages say in each state, and the rules of the metrics' text.
import Foundation
import RelayCore
import Synchronization
import Testing

@testable import outboxd

private let info = AdminInfo(
  slot: "orders", version: "1.2.3", libraries: [("libpq", "15\"\\\n")])

private func metrics(_ role: RelayMetrics.Role = .active, connected: Bool = true) -> RelayMetrics {
  let metrics = RelayMetrics()
  metrics.role.store(role.rawValue, ordering: .relaxed)
  metrics.postgresConnected.store(connected, ordering: .relaxed)
  return metrics
}

private func answer(_ metrics: RelayMetrics, _ path: String, now: MonotonicTime = .now()) -> AdminAnswer {
  AdminPages(metrics: metrics, info: info).answer(method: "GET", path: path, now: now)
}

private func object(_ answer: AdminAnswer) throws -> [String: Any] {
  try #require(try JSONSerialization.jsonObject(with: Data(answer.body.utf8)) as? [String: Any])
}

@Suite struct AdminPagesTests {
  @Test("Ready means active, connected, not held and without fault; else every reason is told")
  func readiness() throws {
    #expect(answer(metrics(), "/readyz") == .json(200, .object([.init("ready", .boolean(true))])))
    func reasons(_ metrics: RelayMetrics) throws -> [String] {
      let answer = answer(metrics, "/readyz")
      #expect(answer.status == 503)
      return try #require(try object(answer)["reasons"] as? [String])
    }
    #expect(try reasons(metrics(connected: false)) == ["Postgres is not connected"])
    #expect(try reasons(metrics(.starting)) == ["starting"])
    let standby = metrics(.standby, connected: false)
    standby.fault = RelayError(.slotActive, "busy")
    #expect(try reasons(standby) == ["standby: another outboxd streams from the slot orders"])
    let held = metrics()
    held.hold = "the topic t is missing"
    held.fault = RelayError(.sinkFailed, "down", code: "X", remedy: "wait")
    #expect(try reasons(held) == ["the topic t is missing", "down [X] Remedy: wait"])
    // Without a producer there is no stream either.
    let refused = metrics(connected: false)
    refused.fault = RelayError(.sinkDenied, "the login is refused")
    #expect(try reasons(refused) == ["the login is refused"])
    refused.fault = nil
    refused.postgresConnected.store(true, ordering: .relaxed)
    refused.busyWith = "comparing with Kafka"
    #expect(try reasons(refused) == ["comparing with Kafka"])
  }

  @Test(
    "A reading older than three intervals is absent, and told as a reason with its age; the stream tells the lag"
  )
  func staleReadings() throws {
    let now = MonotonicTime.now()
    let metrics = metrics()
    metrics.slot = SlotReading(
      time: now, lagBytes: 1936, retainedBytes: 5000, safeBytes: 7000, walStatus: "reserved")
    metrics.anchor = AnchorReading(time: now, retainedBytes: 10, lsn: LSN(5))
    metrics.confirmedLSN.store(1000, ordering: .relaxed)
    metrics.receivedLSN.store(20_001_000, ordering: .relaxed)
    metrics.watchFault = "too many connections for role"
    let current = now.advanced(milliseconds: 15_000)
    #expect(answer(metrics, "/readyz", now: current).status == 200)
    #expect(answer(metrics, "/metrics", now: current).body.contains("\noutboxd_slot_lag_bytes 1936\n"))
    let late = now.advanced(milliseconds: 15_500)
    let text = answer(metrics, "/metrics", now: late).body
    #expect(text.contains("\noutboxd_slot_lag_bytes 20000000\n"))
    for name in ["slot_retained_bytes", "slot_safe_wal_bytes", "slot_wal_status"] {
      #expect(!text.contains("outboxd_\(name)"), "\(name)")
    }
    #expect(text.contains("outboxd_reading_age_seconds{reading=\"slot\"} 15.5\n"))
    #expect(text.contains("outboxd_anchor_lsn 5\n"))
    let status = try object(answer(metrics, "/status", now: late))
    let reason = "the second connection last read the slot 15 s ago: too many connections for role"
    #expect(status["reasons"] as? [String] == [reason])
    let postgres = try #require(status["postgres"] as? [String: Any])
    #expect(postgres["wal_status"] is NSNull && postgres["slot_lag_bytes"] as? Int == 20_000_000)
    #expect(answer(metrics, "/readyz", now: late).status == 503)
    // Without a stream nothing tells it.
    metrics.postgresConnected.store(false, ordering: .relaxed)
    #expect(!answer(metrics, "/metrics", now: late).body.contains("outboxd_slot_lag_bytes"))
    let later = now.advanced(milliseconds: 181_000)
    #expect(!answer(metrics, "/metrics", now: later).body.contains("outboxd_anchor_lsn"))
    #expect(
      answer(metrics, "/readyz", now: later).body.contains(
        "the second connection last read the anchor 181 s ago"))
  }

  @Test("What is acknowledged and not confirmed has an age, and after half a minute it is a reason")
  func unconfirmed() throws {
    let now = MonotonicTime.now()
    let metrics = metrics()
    metrics.unconfirmedSince.store(now.nanoseconds, ordering: .relaxed)
    metrics.watchFault = "canceling statement due to lock timeout"
    let early = now.advanced(milliseconds: 29_000)
    #expect(answer(metrics, "/readyz", now: early).status == 200)
    #expect(answer(metrics, "/metrics", now: early).body.contains("\noutboxd_unconfirmed_age_seconds 29.0\n"))
    let late = answer(metrics, "/readyz", now: now.advanced(milliseconds: 31_000))
    #expect(late.status == 503)
    #expect(
      late.body.contains(
        "nothing has been confirmed to Postgres for 31 s, because the journal is not written: canceling statement due to "
          + "lock timeout"))
  }

  @Test("Alive is whoever turns, or has said when it turns again, in every role")
  func liveness() {
    let now = MonotonicTime.now().advanced(milliseconds: 1_000_000)
    let stuck = metrics()
    stuck.lastTurn.store(now.nanoseconds - 61_000_000_000, ordering: .relaxed)
    stuck.fault = RelayError(.sourceUnavailable, "down")
    for role in AdminPages.roles {
      stuck.role.store(role.rawValue, ordering: .relaxed)
      let answer = answer(stuck, "/livez", now: now)
      #expect(answer.status == 503)
      #expect(answer.body.contains("the relay's thread has not responded for 61 s (\(role))"))
    }
    stuck.turned(until: now)
    #expect(answer(stuck, "/livez", now: now.advanced(milliseconds: 60_000)).status == 200)
    #expect(answer(stuck, "/livez", now: now.advanced(milliseconds: 60_001)).status == 503)
    let turning = metrics()
    turning.lastTurn.store(now.nanoseconds - 59_000_000_000, ordering: .relaxed)
    #expect(answer(turning, "/livez", now: now).status == 200)
    #expect(answer(metrics(), "/livez", now: now).status == 200)
    #expect(answer(metrics(.standby), "/livez", now: now).status == 200)
  }

  @Test("The status has positions as Postgres prints them, the fault with its remedy, and unknowns as null")
  func status() throws {
    let metrics = metrics()
    metrics.receivedLSN.store(0x16_B374_D848, ordering: .relaxed)
    metrics.fault = RelayError(.slotLost, "the slot is lost", code: "55000", remedy: "SELECT 1")
    metrics.slot = SlotReading(walStatus: "lost")
    let status = try object(answer(metrics, "/status"))
    let positions = try #require(status["lsn"] as? [String: Any])
    #expect(positions["received"] as? String == "16/B374D848" && positions["confirmed"] is NSNull)
    let fault = try #require(status["fault"] as? [String: Any])
    #expect(fault["kind"] as? String == "slotLost" && fault["remedy"] as? String == "SELECT 1")
    let postgres = try #require(status["postgres"] as? [String: Any])
    #expect(postgres["slot"] as? String == "orders" && postgres["wal_status"] as? String == "lost")
    #expect(postgres["slot_lag_bytes"] is NSNull && postgres["slot_reading_age_seconds"] is Double)
    #expect(status["role"] as? String == "active" && status["ready"] as? Bool == false)
    // What neither people who watch nor `outboxd status` need.
    #expect(status["libraries"] == nil && postgres["publication"] == nil)
  }

  @Test("The first page cannot be made to run a script")
  func index() {
    let metrics = metrics()
    metrics.hold = "<script>alert(\"x\")</script>"
    let body = answer(metrics, "/").body
    #expect(!body.contains("<script") && body.contains("&lt;script&gt;"))
  }

  @Test("The metrics' text keeps Prometheus' rules")
  func format() throws {
    let text = answer(full(), "/metrics").body
    #expect(text.hasSuffix("\n") && !text.contains("\n\n"))
    var types: [String: String] = [:]
    var helped: Set<String> = []
    var seen: Set<String> = []
    let sample = try Regex(
      #"([a-z_:][a-z0-9_:]*)(\{([a-z_]+="([^"\\]|\\["\\n])*",?)+\})? (-?[0-9][-0-9.e+]*|\+Inf)"#)
    for line in text.split(separator: "\n") {
      let words = line.split(separator: " ", maxSplits: 3)
      if line.hasPrefix("# HELP ") {
        #expect(helped.insert(String(words[2])).inserted)
        #expect(words.count == 4)
      } else if line.hasPrefix("# TYPE ") {
        #expect(helped.contains(String(words[2])), "HELP comes first: \(line)")
        types[String(words[2])] = String(words[3])
      } else {
        #expect(try sample.wholeMatch(in: line) != nil, "\(line)")
        #expect(
          seen.insert(String(line.prefix { $0 != " " })).inserted || line.contains("} "), "twice: \(line)")
        var family = String(line.prefix { $0 != " " && $0 != "{" })
        if types[family] == nil {
          for suffix in ["_bucket", "_sum", "_count"] where family.hasSuffix(suffix) {
            family = String(family.dropLast(suffix.count))
          }
        }
        let type = types[family]
        #expect(type != nil, "no TYPE: \(line)")
        #expect((type == "counter") == family.hasSuffix("_total"), "\(family) is a \(type ?? "")")
      }
    }
  }

  @Test("Names are unique, have the prefix, and carry base units")
  func names() {
    let names = MetricTable.all.map(\.name)
    #expect(Set(names).count == names.count)
    for metric in MetricTable.all {
      #expect(metric.name.hasPrefix("outboxd_") || metric.name.hasPrefix("process_"))
      for unit in ["milliseconds", "_ms", "_us", "kilobytes", "_mb", "minutes"] {
        #expect(!metric.name.contains(unit))
      }
      #expect(metric.help.hasSuffix(".") && !metric.help.contains("\n"))
    }
    for name in [
      "postgres_connected", "kafka_connected", "events_received_total", "events_delivered_total",
      "events_failed_total", "transactions_total", "received_lsn", "delivered_lsn", "confirmed_lsn",
      "slot_lag_bytes", "slot_safe_wal_bytes", "slot_wal_status", "oldest_undelivered_age_seconds",
      "delivery_latency_seconds", "inflight_events", "inflight_bytes", "queue_full_total",
      "producer_rebuilds_total", "reconnects_total", "events_resent_total",
      "last_delivery_timestamp_seconds", "build_info", "role",
    ] { #expect(names.contains("outboxd_\(name)"), "\(name)") }
  }

  @Test("Values come out in base units; what is not known is left out")
  func values() {
    let text = answer(full(), "/metrics").body
    for line in [
      #"outboxd_events_delivered_total{topic="a\"\\\n"} 7"#, #"outboxd_role{role="active"} 1"#,
      #"outboxd_role{role="standby"} 0"#, #"outboxd_slot_wal_status{status="extended"} 1"#,
      "outboxd_slot_lag_bytes 1000", "outboxd_received_lsn 97500059720",
      #"outboxd_delivery_latency_seconds_bucket{le="0.0005"} 1"#,
      #"outboxd_delivery_latency_seconds_bucket{le="0.001"} 3"#,
      #"outboxd_delivery_latency_seconds_bucket{le="60.0"} 3"#,
      #"outboxd_delivery_latency_seconds_bucket{le="+Inf"} 8"#, "outboxd_delivery_latency_seconds_sum 2.5",
      "outboxd_delivery_latency_seconds_count 8", "outboxd_last_delivery_timestamp_seconds 946684801.5",
      #"outboxd_events_failed_total{reason="row_rejected"} 2"#,
      #"outboxd_build_info{version="1.2.3",libpq="15\"\\\n"} 1"#,
    ] { #expect(text.contains("\n\(line)\n"), "\(line)") }
    let empty = answer(metrics(), "/metrics").body
    for name in ["slot_lag_bytes", "slot_wal_status", "received_lsn", "last_delivery", "events_delivered"] {
      #expect(!empty.contains("outboxd_\(name)"), "\(name)")
    }
    #expect(empty.contains("\noutboxd_oldest_undelivered_age_seconds 0.0\n"))
    #expect(empty.contains("\nprocess_open_fds "))
  }

  private func full() -> RelayMetrics {
    let metrics = metrics()
    metrics.topics = ["a\"\\\n": 7, "b": 1]
    metrics.slot = SlotReading(lagBytes: 1000, walStatus: "extended")
    metrics.receivedLSN.store(0x16_B374_D848, ordering: .relaxed)
    metrics.rowsRejected.store(2, ordering: .relaxed)
    metrics.lastDelivery.store(1_500_000, ordering: .relaxed)
    var buckets = [UInt64](repeating: 0, count: RelayMetrics.latencyBounds.count + 1)
    buckets[0] = 1
    buckets[1] = 2
    buckets[buckets.count - 1] = 5
    buckets.withUnsafeBufferPointer { metrics.latency.add(buckets: $0, sum: 2_500_000) }
    return metrics
  }
}
