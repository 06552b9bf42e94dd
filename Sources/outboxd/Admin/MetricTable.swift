// Owns: the table of all metrics: name, type, help, and where the value is read.
// Must not know: the text format.
import RelayCore
import Synchronization

enum MetricTable {
  static let all: [Metric] = connections + events + positions + slot + process

  private static let connections: [Metric] = [
    gauge("outboxd_postgres_connected", "1 while the replication stream is connected.") {
      $0.metrics.postgresConnected.load(ordering: .relaxed) ? 1 : 0
    },
    gauge("outboxd_kafka_connected", "1 while a broker is connected.") {
      $0.metrics.kafkaBrokersUp.load(ordering: .relaxed) > 0 ? 1 : 0
    },
    gauge("outboxd_kafka_brokers_connected", "Connected Kafka brokers.") {
      Int64($0.metrics.kafkaBrokersUp.load(ordering: .relaxed))
    },
    Metric(
      name: "outboxd_role", kind: .gauge,
      help: "1 for the process's present role: starting, active, standby, stopping or halted."
    ) { snapshot in
      let role = RelayMetrics.Role(rawValue: snapshot.metrics.role.load(ordering: .relaxed))
      return AdminPages.roles.map { .init(labels: [("role", "\($0)")], value: $0 == role ? "1" : "0") }
    },
    gauge("outboxd_held", "1 while events wait for a topic or a broker.") {
      $0.metrics.waits.isEmpty ? 0 : 1
    },
    Metric(
      name: "outboxd_reconnects_total", kind: .counter,
      help:
        "Connections restored after a loss, by side: the stream from Postgres; any Kafka broker."
    ) { snapshot in
      [
        .init(
          labels: [("side", "postgres")],
          value: "\(snapshot.metrics.sourceReconnects.load(ordering: .relaxed))"),
        .init(
          labels: [("side", "kafka")],
          value: "\(snapshot.metrics.sinkReconnects.load(ordering: .relaxed))"),
      ]
    },
    counter("outboxd_producer_rebuilds_total", "Kafka producers that were rebuilt after a fatal error.") {
      $0.metrics.producerRebuilds.load(ordering: .relaxed)
    },
    counter(
      "outboxd_log_lines_dropped_total", "Log lines that were dropped because nobody read standard error."
    ) {
      $0.metrics.logLinesDropped.load(ordering: .relaxed)
    },
    Metric(
      name: "outboxd_build_info", kind: .gauge, help: "1, with the versions as labels."
    ) { snapshot in
      let labels =
        [("version", snapshot.info.version)] + snapshot.info.libraries.map { ($0.name, $0.version) }
      return [.init(labels: labels.map { (name: $0.0, value: $0.1) }, value: "1")]
    },
  ]

  private static let events: [Metric] = [
    counter("outboxd_events_received_total", "Events read from the stream.") {
      $0.metrics.eventsReceived.load(ordering: .relaxed)
    },
    Metric(
      name: "outboxd_events_delivered_total", kind: .counter,
      help: "Events that Kafka has acknowledged, by topic. Topics beyond the cap are summed as other."
    ) { snapshot in
      snapshot.metrics.topics.sorted { $0.key < $1.key }
        .map { .init(labels: [("topic", $0.key)], value: "\($0.value)") }
    },
    Metric(
      name: "outboxd_events_failed_total", kind: .counter,
      help: "Events that can never be sent: the row makes no valid event, or Kafka refuses the record."
    ) { snapshot in
      [
        .init(
          labels: [("reason", "row_rejected")],
          value: "\(snapshot.metrics.rowsRejected.load(ordering: .relaxed))"),
        .init(
          labels: [("reason", "record_rejected")],
          value: "\(snapshot.metrics.recordsRejected.load(ordering: .relaxed))"),
      ]
    },
    counter(
      "outboxd_events_resent_total",
      "Events sent that Kafka may have had already from an earlier producer or process."
    ) {
      $0.metrics.eventsResent.load(ordering: .relaxed)
    },
    counter(
      "outboxd_events_recognized_total", "Events that were not sent again, because Kafka had them already."
    ) {
      $0.metrics.eventsRecognized.load(ordering: .relaxed)
    },
    counter("outboxd_transactions_total", "Transactions read from the stream.") {
      $0.metrics.transactions.load(ordering: .relaxed)
    },
    counter("outboxd_ignored_updates_total", "Updates of outbox rows, which are ignored.") {
      $0.metrics.ignoredUpdates.load(ordering: .relaxed)
    },
    counter("outboxd_ignored_truncates_total", "Truncations of outbox tables, which are ignored.") {
      $0.metrics.ignoredTruncates.load(ordering: .relaxed)
    },
    counter(
      "outboxd_headers_left_out_total",
      "Members of headers columns that were left out of their events, or sent as plain headers in place of attributes."
    ) {
      $0.metrics.headersLeftOut.load(ordering: .relaxed)
    },
    counter(
      "outboxd_events_without_key_total", "Events sent without a key, because their aggregate id is NULL."
    ) {
      $0.metrics.eventsWithoutKey.load(ordering: .relaxed)
    },
    counter("outboxd_received_bytes_total", "Bytes read from the stream.") {
      $0.metrics.receivedBytes.load(ordering: .relaxed)
    },
    counter("outboxd_queue_full_total", "Times that reading paused because the producer's queue was full.") {
      $0.metrics.queueFull.load(ordering: .relaxed)
    },
    Metric(
      name: "outboxd_delivery_latency_seconds", kind: .histogram,
      help: "From the commit in Postgres to Kafka's acknowledgement.", samples: latency),
    gauge("outboxd_inflight_events", "Events sent and not yet acknowledged.") {
      Int64($0.metrics.inFlightEvents.load(ordering: .relaxed))
    },
    gauge("outboxd_inflight_bytes", "Bytes sent and not yet acknowledged.") {
      Int64($0.metrics.inFlightBytes.load(ordering: .relaxed))
    },
    gauge("outboxd_inflight_transactions", "Transactions not yet acknowledged as a whole.") {
      Int64($0.metrics.inFlightTransactions.load(ordering: .relaxed))
    },
    Metric(
      name: "outboxd_oldest_undelivered_age_seconds", kind: .gauge,
      help:
        "Time since the commit of the oldest transaction that Kafka has not acknowledged; 0 when there is none."
    ) { [.init(value: "\($0.oldestUndeliveredSeconds)")] },
    Metric(
      name: "outboxd_last_delivery_timestamp_seconds", kind: .gauge,
      help: "Time of Kafka's last acknowledgement, in seconds since 1970."
    ) { snapshot in
      let time = snapshot.metrics.lastDelivery.load(ordering: .relaxed)
      guard time != 0 else { return [] }
      return [.init(value: "\(Double(time + .unixEpochOffset) / 1_000_000)")]
    },
  ]

  private static let positions: [Metric] = [
    lsn("outboxd_received_lsn", "The LSN up to which the stream was read, as a number of bytes.") {
      $0.receivedLSN.load(ordering: .relaxed)
    },
    lsn("outboxd_delivered_lsn", "The LSN up to which Kafka has acknowledged everything.") {
      $0.acknowledgedLSN.load(ordering: .relaxed)
    },
    lsn("outboxd_journaled_lsn", "The checkpoint in the journal table.") {
      $0.journaledLSN.load(ordering: .relaxed)
    },
    lsn("outboxd_confirmed_lsn", "The LSN confirmed to the slot: Postgres may remove WAL before it.") {
      $0.confirmedLSN.load(ordering: .relaxed)
    },
    Metric(
      name: "outboxd_unconfirmed_age_seconds", kind: .gauge,
      help:
        "Time since Kafka acknowledged the oldest transaction that is not confirmed to the slot; 0 when there is none."
    ) { [.init(value: "\($0.unconfirmedSeconds)")] },
    counter("outboxd_journal_writes_total", "Checkpoints written to the journal table.") {
      $0.metrics.journalWrites.load(ordering: .relaxed)
    },
    counter("outboxd_journal_failures_total", "Checkpoints that could not be written to the journal table.") {
      $0.metrics.journalFailures.load(ordering: .relaxed)
    },
  ]

  private static let slot: [Metric] = [
    known(
      "outboxd_slot_lag_bytes",
      "WAL between the slot's confirmed_flush_lsn and the server's end. While the slot cannot be read: at least up to "
        + "where the stream was read."
    ) { $0.slotLagBytes },
    known("outboxd_slot_retained_bytes", "WAL that the server keeps for the slot.") {
      $0.slot?.retainedBytes
    },
    known("outboxd_slot_safe_wal_bytes", "WAL that can still be written before the slot is in danger.") {
      $0.slot?.safeBytes
    },
    known("outboxd_anchor_retained_bytes", "WAL that the server keeps for the anchor, to replay from.") {
      $0.anchor?.retainedBytes
    },
    known("outboxd_anchor_lsn", "The LSN from which a replay from the WAL can begin.") {
      $0.anchor?.lsn.map { Int64(clamping: $0.rawValue) }
    },
    Metric(
      name: "outboxd_reading_age_seconds", kind: .gauge,
      help:
        "Time since the slot and the anchor were last read. Beyond 15 and 180 s their values are left out."
    ) { snapshot in
      let ages = [
        ("slot", snapshot.metrics.slot?.age(at: snapshot.time)),
        ("anchor", snapshot.metrics.anchor?.age(at: snapshot.time)),
      ]
      return ages.compactMap { name, age in
        age.map { .init(labels: [("reading", name)], value: "\($0)") }
      }
    },
    Metric(
      name: "outboxd_slot_wal_status", kind: .gauge,
      help: "1 for the slot's wal_status: reserved, extended, unreserved or lost."
    ) { snapshot in
      guard let status = snapshot.slot?.walStatus, !status.isEmpty else { return [] }
      return ["reserved", "extended", "unreserved", "lost"].map {
        .init(labels: [("status", $0)], value: $0 == status ? "1" : "0")
      }
    },
  ]

  private static let process: [Metric] = [
    ofProcess("process_cpu_seconds_total", .counter, "Total user and system CPU time spent in seconds.") {
      "\($0.cpuSeconds)"
    },
    ofProcess("process_resident_memory_bytes", .gauge, "Resident memory size in bytes.") {
      "\($0.residentMemory)"
    },
    ofProcess("process_virtual_memory_bytes", .gauge, "Virtual memory size in bytes.") {
      "\($0.virtualMemory)"
    },
    ofProcess("process_threads", .gauge, "Number of threads.") { "\($0.threads)" },
    ofProcess("process_open_fds", .gauge, "Number of open file descriptors.") {
      $0.openDescriptors.map { "\($0)" }
    },
    ofProcess("process_max_fds", .gauge, "Maximum number of open file descriptors.") {
      $0.maximumDescriptors.map { "\($0)" }
    },
    ofProcess("process_start_time_seconds", .gauge, "Start time of the process since unix epoch in seconds.")
    {
      $0.startTime.map { "\($0)" }
    },
  ]

  // MARK: Forms

  private static func counter(
    _ name: String, _ help: String, _ read: @escaping @Sendable (MetricSnapshot) -> UInt64
  ) -> Metric {
    Metric(name: name, kind: .counter, help: help) { [.init(value: "\(read($0))")] }
  }

  private static func gauge(
    _ name: String, _ help: String, _ read: @escaping @Sendable (MetricSnapshot) -> Int64
  ) -> Metric {
    Metric(name: name, kind: .gauge, help: help) { [.init(value: "\(read($0))")] }
  }

  /// A position, which is left out while it is zero: "none".
  private static func lsn(
    _ name: String, _ help: String, _ read: @escaping @Sendable (RelayMetrics) -> UInt64
  ) -> Metric {
    Metric(name: name, kind: .gauge, help: help) {
      let value = read($0.metrics)
      return value == 0 ? [] : [.init(value: "\(value)")]
    }
  }

  /// A gauge that is left out while it is not known.
  private static func known(
    _ name: String, _ help: String, _ read: @escaping @Sendable (MetricSnapshot) -> Int64?
  ) -> Metric {
    Metric(name: name, kind: .gauge, help: help) { snapshot in
      read(snapshot).map { [.init(value: "\($0)")] } ?? []
    }
  }

  private static func ofProcess(
    _ name: String, _ kind: Metric.Kind, _ help: String,
    _ read: @escaping @Sendable (ProcessStatistics) -> String?
  ) -> Metric {
    Metric(name: name, kind: kind, help: help) { snapshot in
      guard let value = snapshot.process.flatMap(read) else { return [] }
      return [.init(value: value)]
    }
  }

  @Sendable private static func latency(_ snapshot: MetricSnapshot) -> [Metric.Sample] {
    let (buckets, sum) = snapshot.metrics.latency.snapshot
    var samples: [Metric.Sample] = []
    var count: UInt64 = 0
    for (bound, inBucket) in zip(RelayMetrics.latencyBounds, buckets) {
      count += inBucket
      let seconds = Double(bound) / 1_000_000
      samples.append(.init(suffix: "_bucket", labels: [("le", "\(seconds)")], value: "\(count)"))
    }
    count += buckets.last ?? 0
    samples.append(.init(suffix: "_bucket", labels: [("le", "+Inf")], value: "\(count)"))
    samples.append(.init(suffix: "_sum", value: "\(Double(sum) / 1_000_000)"))
    samples.append(.init(suffix: "_count", value: "\(count)"))
    return samples
  }
}
