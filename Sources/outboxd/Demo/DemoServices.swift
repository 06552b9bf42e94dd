// Owns: the demo's four services: their tables, their mappings, the configuration file for them.
// Must not know: servers and processes.
import PostgresSource
import RelayCore

enum DemoServices {
  /// Schemas and tables. Each outbox is made as `sql/` has it, in the forms that there are: plain,
  /// partitioned, structured mode, other column names.
  static func tables(_ names: DemoNames) -> [String] {
    names.schemas.map { "CREATE SCHEMA \($0)" }
      + orders(names.schema("orders")) + payments(names.schema("payments"))
      + inventory(names.schema("inventory")) + notifications(names.schema("notifications"))
  }

  private static func orders(_ schema: String) -> [String] {
    [
      """
      CREATE TABLE \(schema).orders (
        id uuid PRIMARY KEY, customer text NOT NULL, total numeric(10,2) NOT NULL,
        placed_at timestamptz NOT NULL DEFAULT now())
      """,
      "CREATE TABLE \(schema).outbox (id uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY, \(columns))",
    ]
  }

  private static func payments(_ schema: String) -> [String] {
    [
      """
      CREATE TABLE \(schema).payments (
        order_id uuid PRIMARY KEY, amount numeric(10,2) NOT NULL, method text NOT NULL)
      """,
      """
      CREATE TABLE \(schema).outbox (
        id uuid NOT NULL DEFAULT gen_random_uuid(), \(columns), PRIMARY KEY (id, created_at)
      ) PARTITION BY RANGE (created_at)
      """,
      "CREATE TABLE \(schema).outbox_default PARTITION OF \(schema).outbox DEFAULT",
      """
      DO $demo$ BEGIN EXECUTE format(
        'CREATE TABLE \(schema).outbox_today PARTITION OF \(schema).outbox FOR VALUES FROM (%L) TO (%L)',
        current_date, current_date + 1); END $demo$
      """,
    ]
  }

  private static func inventory(_ schema: String) -> [String] {
    [
      "CREATE TABLE \(schema).stock (sku text PRIMARY KEY, reserved bigint NOT NULL)",
      "CREATE TABLE \(schema).outbox (id uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY, \(columns))",
    ]
  }

  private static func notifications(_ schema: String) -> [String] {
    [
      """
      CREATE TABLE \(schema).messages (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, recipient text NOT NULL, body text NOT NULL)
      """,
      """
      CREATE TABLE \(schema).outbox (
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
