// Owns: outbox rows in the WAL, and the slot from before them, of which every contender drains a copy.
// Must not know: contenders.
import Glibc
import RelayTesting

/// The shape of the rows to drain.
struct Workload: Encodable {
  var rows: Int
  var rowsPerTransaction = 100
  var payloadBytes = 300
  var tables = 1
  var topics = 1
  var keys = 10_000

  var title: String {
    let perTransaction = min(rows, rowsPerTransaction)
    return "\(rows.grouped) rows in transactions of \(perTransaction.grouped), payload "
      + "\(payloadBytes.grouped) B, \(tables) table\(tables == 1 ? "" : "s"), \(topics.grouped) "
      + "topic\(topics == 1 ? "" : "s"), \(min(keys, rows).grouped) keys"
  }
}

final class Backlog {
  static let publication = "bench"
  private static let base = "bench_base"

  let workload: Workload
  let tables: [String]
  /// Behind the last row's commit.
  let end: String
  private let database: Database
  private var copies = 0

  /// Writes the rows. Nothing else is in the WAL between the slot and `end`.
  init(_ workload: Workload, _ database: Database) throws {
    self.workload = workload
    self.database = database
    tables = workload.tables == 1 ? ["bench.outbox"] : (0..<workload.tables).map { "bench.outbox_\($0)" }
    try Self.schema(database, tables)
    try Self.payloads(database, workload.payloadBytes)
    try database.rows(Self.procedure)
    try database.rows(
      "CREATE PUBLICATION bench FOR TABLE \(tables.joined(separator: ", ")) "
        + "WITH (publish = 'insert', publish_via_partition_root = true)")
    try database.rows("SELECT pg_create_logical_replication_slot('\(Self.base)', 'pgoutput')")
    try database.rows("SET synchronous_commit = off")
    try database.rows(
      "CALL bench.fill(\(workload.rows), \(workload.rowsPerTransaction), \(workload.tables), "
        + "\(workload.topics), \(workload.keys))")
    end = try database.value("SELECT pg_current_wal_insert_lsn()") ?? ""
    // Something behind it, so that a reader sees that the end has come; and all of it written.
    try database.rows("SET synchronous_commit = on; SELECT pg_logical_emit_message(true, 'bench', 'end')")
  }

  /// Tables as Debezium's event router and outboxd expect them, and no others.
  static func schema(_ database: Database, _ tables: [String]) throws {
    try clear(database)
    try database.rows("CREATE SCHEMA bench")
    for table in tables {
      try database.rows(
        """
        CREATE TABLE \(table) (
          id uuid PRIMARY KEY DEFAULT gen_random_uuid(), aggregatetype text NOT NULL, aggregateid text NOT NULL,
          type text NOT NULL, payload jsonb NOT NULL)
        """)
    }
  }

  /// Removes everything that a backlog or a latency run leaves, and lets the WAL go.
  static func clear(_ database: Database) throws {
    // Whoever held one may have been killed just now.
    try eventually(
      "no slot is in use", within: 30,
      isTrue: { try database.value("SELECT count(*) FROM pg_replication_slots WHERE active") == "0" })
    try database.rows("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
    try database.rows(
      """
      SET client_min_messages = warning; DROP PUBLICATION IF EXISTS bench; DROP SCHEMA IF EXISTS bench CASCADE;
      DROP SCHEMA IF EXISTS outboxd CASCADE
      """)
    try database.rows("CHECKPOINT")
  }

  func clear() throws { try Self.clear(database) }

  /// Texts of hexadecimal digits in a JSON object. There are enough of them that a compressor's window of
  /// 64 KiB does not hold one twice.
  private static func payloads(_ database: Database, _ size: Int) throws {
    let count = max(16, min(1000, 16_000_000 / max(1, size)))
    try database.rows(
      """
      CREATE TABLE bench.payload (number int PRIMARY KEY, content jsonb NOT NULL);
      SELECT setseed(0.5);
      INSERT INTO bench.payload SELECT n, jsonb_build_object('number', n, 'text', substr(
          (SELECT string_agg(md5(random()::text || n || d), '') FROM generate_series(0, \(size) / 32) d),
          1, greatest(1, \(size) - 25 - length(n::text))))
        FROM generate_series(0, \(count - 1)) n
      """)
  }

  private static let procedure = """
    CREATE PROCEDURE bench.fill(total int, per_transaction int, tables int, topics int, keys int)
    LANGUAGE plpgsql AS $$
    DECLARE
      first int := 0;
      last int;
      pool int := (SELECT count(*) FROM bench.payload);
    BEGIN
      WHILE first < total LOOP
        last := least(first + per_transaction, total) - 1;
        IF tables = 1 THEN
          INSERT INTO bench.outbox (aggregatetype, aggregateid, type, payload)
            SELECT CASE topics WHEN 1 THEN 'order' ELSE 't' || i % topics END, (i::bigint * 7919 % keys)::text,
              'OrderPlaced', (SELECT content FROM bench.payload WHERE number = i % pool)
            FROM generate_series(first, last) i;
        ELSE
          FOR i IN first..last LOOP
            EXECUTE format('INSERT INTO bench.outbox_%s (aggregatetype, aggregateid, type, payload) '
              'SELECT ''order'', $1, ''OrderPlaced'', content FROM bench.payload WHERE number = $2', i % tables)
              USING (i::bigint * 7919 % keys)::text, i % pool;
          END LOOP;
        END IF;
        COMMIT;
        first := last + 1;
      END LOOP;
    END $$
    """

  /// A slot of its own for one run, from before the rows.
  func copySlot() throws -> String {
    copies += 1
    let name = "bench_\(copies)"
    try database.rows("SELECT pg_copy_logical_replication_slot('\(Self.base)', '\(name)')")
    return name
  }

  func drop(slot: String) throws {
    try eventually(
      "slot \(slot) is free", within: 30,
      isTrue: {
        try database.value("SELECT active FROM pg_replication_slots WHERE slot_name = '\(slot)'") == "f"
      })
    try database.rows("SELECT pg_drop_replication_slot('\(slot)')")
  }

  /// The topics' names behind a prefix: the aggregate types.
  func topics(prefix: String) -> [String] {
    workload.topics == 1 ? [prefix + "order"] : (0..<workload.topics).map { "\(prefix)t\($0)" }
  }

  /// Writes sample rows for the sink's limit, as COPY does. At most 64 MB of them.
  func writeSamples(to path: String, psql conninfo: String) throws {
    let count = min(10_000, workload.rows, max(16, 64_000_000 / workload.payloadBytes))
    try ChildProcess.check([
      "psql", "-X", "-q", "-d", conninfo, "-c",
      "\\copy (SELECT id, aggregatetype, aggregateid, type, payload FROM \(tables[0]) LIMIT \(count)) TO '\(path)'",
    ])
  }
}

extension Int {
  /// With commas between thousands.
  var grouped: String {
    let digits = String(magnitude)
    var text = ""
    for (index, digit) in digits.enumerated() {
      if index > 0, (digits.count - index) % 3 == 0 { text.append(",") }
      text.append(digit)
    }
    return (self < 0 ? "-" : "") + text
  }
}
