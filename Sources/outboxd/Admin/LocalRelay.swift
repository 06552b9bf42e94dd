// Owns: what a running outboxd on this machine says of itself, as far as `status` shows it.
// Must not know: how it was asked.

/// Read from the answer of `/status`.
struct LocalRelay: Equatable {
  let slot: String
  /// Nil where the outboxd could not tell it from its conninfo.
  let database: String?
  let role: String
  let isReady: Bool
  /// Why events do not flow, `hold` and `fault` among them.
  let reasons: [String]
  /// What events wait for.
  let hold: String?
  let fault: JSONValue
  let brokersConnected: Int64

  var isStandby: Bool { role == "standby" }

  /// Nil where the text is not an answer of outboxd.
  init?(status text: String) {
    guard let status = JSONReader.value(of: text), let postgres = status["postgres"],
      case .text(let slot)? = postgres["slot"], case .text(let role)? = status["role"],
      case .boolean(let isReady)? = status["ready"]
    else { return nil }
    self.slot = slot
    self.role = role
    self.isReady = isReady
    database = postgres["database"]?.string
    hold = status["hold"]?.string
    fault = status["fault"] ?? .null
    if case .array(let items)? = status["reasons"] {
      reasons = items.compactMap(\.string)
    } else {
      reasons = []
    }
    if case .integer(let count)? = status["kafka"]?["brokers_connected"] {
      brokersConnected = count
    } else {
      brokersConnected = 0
    }
  }

  /// For people: Kafka, and every reason why events do not flow.
  var lines: [(String, String)] {
    guard !isStandby else { return [] }
    var lines = [
      ("kafka", brokersConnected > 0 ? "connected, brokers: \(brokersConnected)" : "not connected")
    ]
    if let hold { lines.append(("waits for", hold)) }
    lines += reasons.filter { $0 != hold }.map { ("not ready", $0) }
    return lines
  }

  var json: JSONValue {
    .object([
      .init("role", .text(role)), .init("ready", .boolean(isReady)),
      .init("reasons", .array(reasons.map { .text($0) })), .init("hold", .optional(hold)),
      .init("fault", fault), .init("kafka_brokers_connected", .integer(brokersConnected)),
    ])
  }
}
