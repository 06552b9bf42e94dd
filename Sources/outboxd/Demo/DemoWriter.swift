// Owns: the demo's business: orders that are placed, paid, reserved and notified, each with its event in the
// same transaction; what was written, and when.
// Must not know: Kafka.
import PostgresSource
import RelayCore
import Synchronization

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

  /// What the services write of one order.
  private struct Order {
    let number: Int
    let id: String
    let customer: String
    /// In euros.
    let total: String
    var headers: String { "{\"correlationid\":\"order-\(number + 1)\"}" }
    var payment: String { "{\"orderId\":\"\(id)\",\"amount\":\(total),\"method\":\"card\"}" }
  }

  /// The story of one order: four services, four transactions.
  private func order(_ number: Int, _ connection: SQLConnection) throws(RelayError) {
    let cents = 999 + number * 1337 % 20_000
    let order = Order(
      number: number, id: try connection.query("SELECT gen_random_uuid()::text AS id")[0, "id"] ?? "",
      customer: Self.customers[number % Self.customers.count],
      total: "\(cents / 100).\(cents % 100 / 10)\(cents % 10)")
    try write("orders", connection) { () throws(RelayError) in try place(order, connection) }
    // Every fifth payment is declined at first: the transaction is rolled back, with its event.
    if number % 5 == 4 { try decline(order, connection) }
    try write("payments", connection) { () throws(RelayError) in try pay(order, connection) }
    try write("inventory", connection) { () throws(RelayError) in try reserve(order, connection) }
    try write("notifications", connection) { () throws(RelayError) in try notify(order, connection) }
  }

  private func place(_ order: Order, _ connection: SQLConnection) throws(RelayError) -> String {
    let schema = names.schema("orders")
    try connection.query(
      "INSERT INTO \(schema).orders (id, customer, total) VALUES ($1, $2, $3)",
      [order.id, order.customer, order.total])
    let payload =
      "{\"orderId\":\"\(order.id)\",\"customer\":\"\(order.customer)\",\"total\":\(order.total)}"
    return try event(connection, schema, ["order", order.id, "OrderPlaced", payload, order.headers])
  }

  private func pay(_ order: Order, _ connection: SQLConnection) throws(RelayError) -> String {
    let schema = names.schema("payments")
    try connection.query(
      "INSERT INTO \(schema).payments (order_id, amount, method) VALUES ($1, $2, 'card')",
      [order.id, order.total])
    return try event(
      connection, schema, ["payment", order.id, "PaymentAuthorized", order.payment, order.headers])
  }

  private func reserve(_ order: Order, _ connection: SQLConnection) throws(RelayError) -> String {
    let schema = names.schema("inventory")
    let sku = "SKU-\(100 + order.number % 7)"
    try connection.query(
      "INSERT INTO \(schema).stock AS s (sku, reserved) VALUES ($1, 1) "
        + "ON CONFLICT (sku) DO UPDATE SET reserved = s.reserved + 1", [sku])
    let payload = "{\"sku\":\"\(sku)\",\"orderId\":\"\(order.id)\",\"quantity\":1}"
    return try event(connection, schema, ["stock", sku, "StockReserved", payload, order.headers])
  }

  private func notify(_ order: Order, _ connection: SQLConnection) throws(RelayError) -> String {
    let schema = names.schema("notifications")
    let body = "Your order over \(order.total) EUR is on its way."
    try connection.query(
      "INSERT INTO \(schema).messages (recipient, body) VALUES ($1, $2)", [order.customer, body])
    return try connection.query(
      "INSERT INTO \(schema).outbox (aggregate_type, aggregate_id, event_type, payload, headers) "
        + "VALUES ('message', $1, 'EmailQueued', $2, $3) RETURNING id::text AS id",
      [order.customer, body, order.headers])[0, "id"] ?? ""
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

  private func decline(_ order: Order, _ connection: SQLConnection) throws(RelayError) {
    try connection.query("BEGIN")
    ledger.willRollBack(try pay(order, connection))
    try connection.query("ROLLBACK")
  }
}
