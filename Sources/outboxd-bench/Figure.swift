// Owns: the figures that are taken, their names in the table and in the JSON, and how they are written.
// Must not know: how they are taken.

enum Figure: String, CaseIterable {
  case rowsPerSecond = "rows_per_second"
  case megabytesPerSecond = "stream_megabytes_per_second"
  case toReceiver = "ratio_to_pg_recvlogical"
  case toFloor = "throughput_ratio_to_floor"
  case cpuToFloor = "cpu_ratio_to_floor"
  case toReference = "throughput_ratio_to_reference"
  case cpuToReference = "cpu_ratio_to_reference"
  case cpuPerMillion = "cpu_seconds_per_million"
  case userPerMillion = "user_seconds_per_million"
  case systemPerMillion = "system_seconds_per_million"
  case walsenderPerMillion = "walsender_cpu_seconds_per_million"
  case brokerPerMillion = "broker_cpu_seconds_per_million"
  case peakMemory = "peak_rss_megabytes"
  case startSeconds = "start_seconds"
  case totalSeconds = "seconds_with_start"

  case latencyMedian = "consumer_p50_ms"
  case latency99 = "consumer_p99_ms"
  case latency999 = "consumer_p999_ms"
  case latencyMaximum = "consumer_max_ms"
  case acknowledgedMedian = "acknowledged_p50_ms"
  case acknowledged99 = "acknowledged_p99_ms"
  case acknowledged999 = "acknowledged_p999_ms"
  case cpuPercent = "cpu_percent_of_a_core"
  case eventsPerSecond = "events_per_second_reached"
  case lateness = "load_lateness_p99_ms"

  case binarySize = "binary_megabytes"
  case idleMemory = "idle_rss_megabytes"
  case idleCPU = "idle_cpu_percent_of_a_core"
  case firstEvent = "start_to_first_event_ms"

  var title: String {
    switch self {
    case .rowsPerSecond: "rows/s"
    case .megabytesPerSecond: "MB/s"
    case .toReceiver: "/ pg_recvlogical"
    case .toFloor: "/ floor"
    case .cpuToFloor: "CPU / floor"
    case .toReference: "/ reference"
    case .cpuToReference: "CPU / reference"
    case .cpuPerMillion: "CPU s/M"
    case .userPerMillion: "user s/M"
    case .systemPerMillion: "system s/M"
    case .walsenderPerMillion: "walsender s/M"
    case .brokerPerMillion: "broker s/M"
    case .peakMemory: "peak MB"
    case .startSeconds: "start s"
    case .totalSeconds: "total s"
    case .latencyMedian: "p50 ms"
    case .latency99: "p99 ms"
    case .latency999: "p99.9 ms"
    case .latencyMaximum: "max ms"
    case .acknowledgedMedian: "ack p50 ms"
    case .acknowledged99: "ack p99 ms"
    case .acknowledged999: "ack p99.9 ms"
    case .cpuPercent: "CPU %"
    case .eventsPerSecond: "events/s"
    case .lateness: "load late p99 ms"
    case .binarySize: "binary MB"
    case .idleMemory: "idle MB"
    case .idleCPU: "idle CPU %"
    case .firstEvent: "first event ms"
    }
  }

  /// The others stand in the JSON only.
  var isInTable: Bool {
    switch self {
    case .userPerMillion, .systemPerMillion, .totalSeconds, .latencyMaximum: false
    default: true
    }
  }

  private var digits: Int {
    switch self {
    case .rowsPerSecond, .eventsPerSecond: 0
    case .megabytesPerSecond, .peakMemory, .idleMemory, .firstEvent, .cpuPercent: 1
    case .latencyMedian, .latency99, .latency999, .latencyMaximum, .acknowledgedMedian, .acknowledged99,
      .acknowledged999, .totalSeconds:
      1
    default: 2
    }
  }

  func text(_ value: Double) -> String {
    guard value.isFinite else { return "–" }
    if digits == 0 { return Int(value.rounded()).grouped }
    let scale = digits == 1 ? 10.0 : 100.0
    let scaled = Int((value * scale).rounded())
    let fraction = String(scaled.magnitude % UInt(scale))
    let zeros = String(repeating: "0", count: digits - fraction.utf8.count)
    return "\(scaled < 0 ? "-" : "")\(scaled.magnitude / UInt(scale)).\(zeros)\(fraction)"
  }
}
