// Owns: the demo's four services: their tables, their mappings, the configuration file for them.
// Must not know: servers and processes.
import PostgresSource
import RelayCore

/// What the demo calls things, in a database of its own or in a given one.
struct DemoNames: Sendable {
  /// In front of each schema and topic: nothing in a database of the demo's own.
  var schemaPrefix: String
  var topicPrefix: String
  /// In front of each source. In topics that outlive the demo the next one's must not look like the same source.
  var sourcePrefix: String

  static let slot = "outboxd_demo"
  static let publication = "outboxd_demo"
  static let services = ["orders", "payments", "inventory", "notifications"]

  var schemas: [String] { Self.services.map { schemaPrefix + $0 } }

  var topics: [String] {
    ["order", "payment", "stock"].map { "\(topicPrefix)outbox.event.\($0)" } + [
      "\(topicPrefix)notifications.v1"
    ]
  }

  func schema(_ service: String) -> String { schemaPrefix + service }
}

enum DemoServices {
  /// Schemas and tables. Each outbox is made as `sql/` has it, in the forms that there are: plain,
  /// partitioned, structured mode, other column names.
  static func tables(_ names: DemoNames) -> [String] {
    let orders = names.schema("orders")
    let payments = names.schema("payments")
    let inventory = names.schema("inventory")
    let notifications = names.schema("notifications")
    return names.schemas.map { "CREATE SCHEMA \($0)" } + [
      """
      CREATE TABLE \(orders).orders (
        id uuid PRIMARY KEY, customer text NOT NULL, total numeric(10,2) NOT NULL,
        placed_at timestamptz NOT NULL DEFAULT now())
      """,
      "CREATE TABLE \(orders).outbox (id uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY, \(columns))",
      """
      CREATE TABLE \(payments).payments (
        order_id uuid PRIMARY KEY, amount numeric(10,2) NOT NULL, method text NOT NULL)
      """,
      """
      CREATE TABLE \(payments).outbox (
        id uuid NOT NULL DEFAULT gen_random_uuid(), \(columns), PRIMARY KEY (id, created_at)
      ) PARTITION BY RANGE (created_at)
      """,
      "CREATE TABLE \(payments).outbox_default PARTITION OF \(payments).outbox DEFAULT",
      """
      DO $demo$ BEGIN EXECUTE format(
        'CREATE TABLE \(payments).outbox_today PARTITION OF \(payments).outbox FOR VALUES FROM (%L) TO (%L)',
        current_date, current_date + 1); END $demo$
      """,
      "CREATE TABLE \(inventory).stock (sku text PRIMARY KEY, reserved bigint NOT NULL)",
      "CREATE TABLE \(inventory).outbox (id uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY, \(columns))",
      """
      CREATE TABLE \(notifications).messages (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, recipient text NOT NULL, body text NOT NULL)
      """,
      """
      CREATE TABLE \(notifications).outbox (
        id uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY, aggregate_type text NOT NULL,
        aggregate_id text NOT NULL, event_type text NOT NULL, payload text, headers jsonb,
        schemaversion integer NOT NULL DEFAULT 1, created_at timestamptz NOT NULL DEFAULT now())
      """,
    ]
  }

  private static let columns = """
    aggregatetype text NOT NULL, aggregateid text NOT NULL, type text NOT NULL, payload jsonb,
    headers jsonb, created_at timestamptz NOT NULL DEFAULT now()
    """

  /// What the set-up is made for. The file says more about each.
  static func mappings(_ names: DemoNames) -> [OutboxMapping] {
    names.schemas.map { OutboxMapping(schema: $0, table: "outbox") }
  }

  struct File {
    var conninfo: String
    var brokers: String
    var journal: PostgresSettings.Journal
    var adminPort: UInt16
  }

  /// The configuration that `outboxd run` is started with.
  static func configuration(_ file: File, _ names: DemoNames) -> String {
    let topic = quoted("\(names.topicPrefix)outbox.event.{aggregatetype}")
    return """
      postgres:
        conninfo: \(quoted(file.conninfo))
        slot: \(DemoNames.slot)
        publication: \(DemoNames.publication)
        journal: \(quoted(file.journal.rawValue))
      kafka:
        properties:
          bootstrap.servers: \(quoted(file.brokers))
      outboxes:
        - table: \(names.schema("orders")).outbox
          source: \(names.sourcePrefix)/orders
          topic: \(topic)
        - table: \(names.schema("payments")).outbox     # partitioned
          source: \(names.sourcePrefix)/payments
          topic: \(topic)
        - table: \(names.schema("inventory")).outbox
          source: \(names.sourcePrefix)/inventory
          topic: \(topic)
          content_mode: structured
        - table: \(names.schema("notifications")).outbox     # other column names, a topic per version
          source: \(names.sourcePrefix)/notifications
          topic: \(quoted("\(names.topicPrefix)notifications.v{schemaversion}"))
      relay:
        drain_timeout: 5s
      admin:
        listen: 127.0.0.1:\(file.adminPort)
      log: {format: text, level: info}

      """
  }

  /// A YAML text in single quotes.
  static func quoted(_ text: String) -> String {
    "'" + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "''") + "'"
  }

  /// Takes away what the demo made in a given database.
  static func removal(_ names: DemoNames) -> [String] {
    [
      "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = "
        + "'\(DemoNames.slot)' AND database = current_database()",
      "DROP PUBLICATION IF EXISTS \(DemoNames.publication)",
    ] + names.schemas.map { "DROP SCHEMA IF EXISTS \($0) CASCADE" }
  }
}
