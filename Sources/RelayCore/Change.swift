// Owns: what a source of changes hands to the loop.
// Must not know: how the bytes were framed on the wire, or what a column means.

/// Bytes in somebody else's buffer. Valid until the following `ChangeSource.next()`, or for as long as
/// the place that lends them says.
public typealias LentBytes = UnsafeRawBufferPointer

/// Microseconds since 2000-01-01 00:00:00 UTC, as Postgres counts.
public typealias PostgresMicroseconds = Int64

extension PostgresMicroseconds {
  /// Microseconds between the Unix epoch and that of Postgres.
  public static let unixEpochOffset: Int64 = 946_684_800_000_000
  /// In place of a commit time that cannot be known: a table's row does not tell it.
  public static let unknown: Int64 = .min
}

/// One decoded message of the stream. Plain data: copying one costs no reference count.
public enum Change {
  /// A committed transaction begins. `commitLSN` is the start of its commit record; transactions arrive
  /// in ascending order of it.
  case begin(commitLSN: LSN, commitTime: PostgresMicroseconds, transactionID: UInt32)
  /// The transaction's end. A checkpoint is always an `endLSN`.
  case commit(commitLSN: LSN, endLSN: LSN, commitTime: PostgresMicroseconds)
  /// A table's shape, now in `ChangeSource.relation`. It comes before the table's first row, and again
  /// after each change of the table.
  case relation
  case insert(RowView)
  case update(relationID: UInt32)
  case delete(relationID: UInt32)
  case truncate(relationCount: Int)
  case message(LogicalMessage)
  /// Everything that ends at or below `walEnd`, and will be sent on this connection, has been sent.
  case keepalive(walEnd: LSN)
  /// A message that carries nothing for the relay (origin, type).
  case other
}

/// A message of `pg_logical_emit_message`.
public struct LogicalMessage {
  public let isTransactional: Bool
  public let lsn: LSN
  public let prefix: LentBytes
  public let content: LentBytes

  public init(isTransactional: Bool, lsn: LSN, prefix: LentBytes, content: LentBytes) {
    self.isTransactional = isTransactional
    self.lsn = lsn
    self.prefix = prefix
    self.content = content
  }
}

/// One inserted row: its values in the order of `Relation.columns`. Valid until the following `next()`.
public struct RowView {
  public let relationID: UInt32
  public let values: UnsafeBufferPointer<ColumnValue>

  public init(relationID: UInt32, values: UnsafeBufferPointer<ColumnValue>) {
    self.relationID = relationID
    self.values = values
  }
}

/// One value of a row.
public struct ColumnValue {
  public enum Format: UInt8 {
    case null
    /// An unchanged TOAST value that was not sent. Never in an INSERT.
    case unchanged
    case text
    case binary
  }

  public let format: Format
  public let bytes: LentBytes

  public init(format: Format, bytes: LentBytes) {
    self.format = format
    self.bytes = bytes
  }
}

/// The shape of a table, as its Relation message gives it.
public struct Relation: Equatable, Sendable {
  public struct Column: Equatable, Sendable {
    public var name: String
    public var type: ColumnType

    public init(name: String, type: ColumnType) {
      self.name = name
      self.type = type
    }
  }

  public var id: UInt32
  public var schema: String
  public var table: String
  public var columns: [Column]
  /// The outbox that the table is or was, where the source knows it by something that outlasts its name.
  public var outbox: OutboxMapping?

  public init(id: UInt32, schema: String, table: String, columns: [Column]) {
    self.id = id
    self.schema = schema
    self.table = table
    self.columns = columns
  }
}

/// The type of a column, as far as a value's bytes must be understood. A domain has its base type.
public enum ColumnType: Equatable, Sendable {
  case bool, int2, int4, int8, float4, float8, numeric
  /// `text`, `varchar`, `name`, `citext`: the bytes are the text.
  case text
  /// `character(n)`: the text, padded with blanks.
  case bpchar
  case uuid, bytea, json, jsonb, xml
  case date, timestamp, timestamptz
  /// Any other type. An enum's bytes are its label; others are not text.
  case other(oid: UInt32, name: String)

  /// How the bytes of a value are read.
  enum Form: BitwiseCopyable {
    case bool, int2, int4, int8, float4, float8, numeric, text, bpchar, uuid, bytea, json, jsonb, xml
    case date, timestamp, timestamptz, other
  }

  var form: Form {
    switch self {
    case .bool: .bool
    case .int2: .int2
    case .int4: .int4
    case .int8: .int8
    case .float4: .float4
    case .float8: .float8
    case .numeric: .numeric
    case .text: .text
    case .bpchar: .bpchar
    case .uuid: .uuid
    case .bytea: .bytea
    case .json: .json
    case .jsonb: .jsonb
    case .xml: .xml
    case .date: .date
    case .timestamp: .timestamp
    case .timestamptz: .timestamptz
    case .other: .other
    }
  }
}
