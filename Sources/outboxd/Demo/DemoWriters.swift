// Owns: the demo's business: orders that are placed, paid, reserved and notified, each with its event in the
// same transaction; what was written, and when.
// Must not know: Kafka.
import PostgresSource
import RelayCore
import Synchronization

/// What was written and what has arrived. Shared by the writer's thread and the demo's.
final class DemoLedger: Sendable {
  struct Counts {
    var written = 0
    var rolledBack = 0
    var arrived = 0
    /// Events that arrived although their transaction was rolled back. Must stay 0.
    var invented = 0
    var repeated = 0
    /// Microseconds from COMMIT to arrival.
    var latencies: [Int] = []
    var services: Set<String> = []
  }

  private struct State {
    var counts = Counts()
    var commits: [String: MonotonicTime] = [:]
    var rolledBack: Set<String> = []
    var arrived: Set<String> = []
    var failure: RelayError?
  }

  private let state = Mutex(State())

  var counts: Counts { state.withLock { $0.counts } }

  var failure: RelayError? {
    get { state.withLock { $0.failure } }
    set { state.withLock { $0.failure = newValue } }
  }

  /// Just before COMMIT.
  func willCommit(_ id: String, service: String) {
    state.withLock { state in
      state.commits[id] = .now()
      state.counts.written += 1
      state.counts.services.insert(service)
    }
  }

  /// Before ROLLBACK.
  func willRollBack(_ id: String) {
    state.withLock { state in
      state.rolledBack.insert(id)
      state.counts.rolledBack += 1
    }
  }

  /// The microseconds since its COMMIT. Nil: the event is not this demo's, or is here a second time.
  func arrived(_ id: String) -> Int? {
    state.withLock { state in
      if state.rolledBack.contains(id) { state.counts.invented += 1 }
      guard let commit = state.commits[id] else { return nil }
      guard state.arrived.insert(id).inserted else {
        state.counts.repeated += 1
        return nil
      }
      let latency = Int((MonotonicTime.now().nanoseconds - commit.nanoseconds) / 1000)
      state.counts.arrived += 1
      state.counts.latencies.append(latency)
      return latency
    }
  }
}

/// Writes a few events a second until it is stopped or the limit is reached.
struct DemoWriter: Sendable {
  /// Milliseconds between two transactions.
  static let pause = 250

  let settings: PostgresSettings
  let names: DemoNames
  let ledger: DemoLedger
  let limit: Int
  let stop: StopSignal

  func run() {
    do throws(RelayError) {
      let connection = try SQLConnection(settings, applicationName: "outboxd demo", stop: stop)
      var number = 0
      while !stop.isRequested, ledger.counts.written < limit {
        try order(number, connection)
        number += 1
      }
    } catch {
      if error.kind != .interrupted { ledger.failure = error }
    }
  }

  private static let customers = ["alice", "bob", "carol", "dave", "erin"]

  /// The story of one order: four services, four transactions.
  private func order(_ number: Int, _ connection: SQLConnection) throws(RelayError) {
    let customer = Self.customers[number % Self.customers.count]
    let cents = 999 + number * 1337 % 20_000
    let total = "\(cents / 100).\(cents % 100 / 10)\(cents % 10)"
    let order = try connection.query("SELECT gen_random_uuid()::text AS id")[0, "id"] ?? ""
    let headers = "{\"correlationid\":\"order-\(number + 1)\"}"

    try write("orders", connection) { () throws(RelayError) in
      let schema = names.schema("orders")
      try connection.query(
        "INSERT INTO \(schema).orders (id, customer, total) VALUES ($1, $2, $3)", [order, customer, total])
      let payload = "{\"orderId\":\"\(order)\",\"customer\":\"\(customer)\",\"total\":\(total)}"
      return try event(connection, schema, ["order", order, "OrderPlaced", payload, headers])
    }
    // Every fifth payment is declined at first: the transaction is rolled back, with its event.
    if number % 5 == 4 { try decline(order, total, headers, connection) }
    try write("payments", connection) { () throws(RelayError) in
      let schema = names.schema("payments")
      try connection.query(
        "INSERT INTO \(schema).payments (order_id, amount, method) VALUES ($1, $2, 'card')", [order, total])
      let payload = "{\"orderId\":\"\(order)\",\"amount\":\(total),\"method\":\"card\"}"
      return try event(connection, schema, ["payment", order, "PaymentAuthorized", payload, headers])
    }
    try write("inventory", connection) { () throws(RelayError) in
      let schema = names.schema("inventory")
      let sku = "SKU-\(100 + number % 7)"
      try connection.query(
        "INSERT INTO \(schema).stock AS s (sku, reserved) VALUES ($1, 1) "
          + "ON CONFLICT (sku) DO UPDATE SET reserved = s.reserved + 1", [sku])
      let payload = "{\"sku\":\"\(sku)\",\"orderId\":\"\(order)\",\"quantity\":1}"
      return try event(connection, schema, ["stock", sku, "StockReserved", payload, headers])
    }
    try write("notifications", connection) { () throws(RelayError) in
      let schema = names.schema("notifications")
      let body = "Your order over \(total) EUR is on its way."
      try connection.query(
        "INSERT INTO \(schema).messages (recipient, body) VALUES ($1, $2)", [customer, body])
      return try connection.query(
        "INSERT INTO \(schema).outbox (aggregate_type, aggregate_id, event_type, payload, headers) "
          + "VALUES ('message', $1, 'EmailQueued', $2, $3) RETURNING id::text AS id",
        [customer, body, headers])[0, "id"] ?? ""
    }
  }

  private func event(
    _ connection: SQLConnection, _ schema: String, _ values: [String]
  ) throws(RelayError) -> String {
    try connection.query(
      "INSERT INTO \(schema).outbox (aggregatetype, aggregateid, type, payload, headers) "
        + "VALUES ($1, $2, $3, $4, $5) RETURNING id::text AS id", values)[0, "id"] ?? ""
  }

  /// One transaction: a business row, and its event's row, whose id `body` returns.
  private func write(
    _ service: String, _ connection: SQLConnection, _ body: () throws(RelayError) -> String
  ) throws(RelayError) {
    guard !stop.isRequested, ledger.counts.written < limit else { return }
    try connection.query("BEGIN")
    let id = try body()
    ledger.willCommit(id, service: service)
    try connection.query("COMMIT")
    stop.wait(milliseconds: Self.pause)
  }

  private func decline(
    _ order: String, _ total: String, _ headers: String, _ connection: SQLConnection
  ) throws(RelayError) {
    let schema = names.schema("payments")
    try connection.query("BEGIN")
    try connection.query(
      "INSERT INTO \(schema).payments (order_id, amount, method) VALUES ($1, $2, 'card')", [order, total])
    let payload = "{\"orderId\":\"\(order)\",\"amount\":\(total),\"method\":\"card\"}"
    ledger.willRollBack(
      try event(connection, schema, ["payment", order, "PaymentAuthorized", payload, headers]))
    try connection.query("ROLLBACK")
  }
}
