// Owns: the messages of pgoutput, protocol version 1: bytes in, `Change` out. Pure; no allocation per row.
// Must not know: connections, the frame around a message, what a column means.
public import RelayCore

/// Decodes the payloads of one connection in the order they came.
///
/// Source: PostgreSQL manual, 55.9 "Logical Replication Message Formats".
public struct PgOutputDecoder: ~Copyable {
  /// `MaxTupleAttributeNumber`: no row has more columns.
  static let maximumColumns = 1664

  /// The table of the last Relation message.
  public private(set) var relation = Relation(id: 0, schema: "", table: "", columns: [])

  private let values: UnsafeMutableBufferPointer<ColumnValue>
  private var types: [UInt32: ColumnType] = [:]
  private var columnCounts: [UInt32: Int] = [:]
  private var lastID: UInt32 = 0
  private var lastCount = -1

  public init() {
    values = .allocate(capacity: Self.maximumColumns)
    values.initialize(repeating: ColumnValue(format: .null, bytes: LentBytes(start: nil, count: 0)))
  }

  deinit {
    // SAFETY: allocated by init and never handed over; a RowView is void once the decoder is gone.
    values.deallocate()
  }

  /// Decodes one message, whose bytes the result borrows. A row is valid until the following call.
  /// - Throws: `streamMalformed`, with the message's tag and the offset in it. A message that was refused
  ///   leaves no trace: neither `relation` nor what is known of types changes.
  public mutating func decode(_ payload: LentBytes) throws(RelayError) -> Change {
    guard var reader = WireReader(payload) else {
      throw WireReader.malformed(tag: nil, offset: 0, "it is empty")
    }
    switch reader.tag {
    case UInt8(ascii: "I"): return try insert(&reader)
    case UInt8(ascii: "B"): return try Self.begin(&reader)
    case UInt8(ascii: "C"): return try Self.commit(&reader)
    case UInt8(ascii: "R"): return try relation(&reader)
    case UInt8(ascii: "Y"): return try type(&reader)
    case UInt8(ascii: "U"): return try update(&reader)
    case UInt8(ascii: "D"): return try delete(&reader)
    case UInt8(ascii: "T"): return try Self.truncate(&reader)
    case UInt8(ascii: "M"): return try Self.message(&reader)
    case UInt8(ascii: "O"): return try Self.origin(&reader)
    default: throw WireReader.malformed(tag: reader.tag, offset: 0, "no message has this tag")
    }
  }
}

// Transactions and messages.
extension PgOutputDecoder {
  private static func begin(_ reader: inout WireReader) throws(RelayError) -> Change {
    let commitLSN = try reader.lsn()
    let time = try reader.time()
    let transactionID = try reader.uint32()
    try reader.end()
    return .begin(commitLSN: commitLSN, commitTime: time, transactionID: transactionID)
  }

  private static func commit(_ reader: inout WireReader) throws(RelayError) -> Change {
    _ = try reader.uint8()  // Flags: none is defined.
    let commitLSN = try reader.lsn()
    let endLSN = try reader.lsn()
    let time = try reader.time()
    try reader.end()
    return .commit(commitLSN: commitLSN, endLSN: endLSN, commitTime: time)
  }

  private static func origin(_ reader: inout WireReader) throws(RelayError) -> Change {
    _ = try reader.lsn()
    _ = try reader.untilNUL()
    try reader.end()
    return .other
  }

  private static func message(_ reader: inout WireReader) throws(RelayError) -> Change {
    let flags = try reader.uint8()
    let lsn = try reader.lsn()
    let prefix = try reader.untilNUL()
    let content = try reader.bytes(try reader.uint32())
    try reader.end()
    return .message(
      LogicalMessage(isTransactional: flags & 1 != 0, lsn: lsn, prefix: prefix, content: content))
  }

  private static func truncate(_ reader: inout WireReader) throws(RelayError) -> Change {
    let count = Int32(bitPattern: try reader.uint32())
    guard count >= 0 else { throw reader.malformed("a negative count of relations, \(count)") }
    _ = try reader.uint8()  // Flags: CASCADE, RESTART IDENTITY.
    guard reader.remaining == Int(count) * 4 else {
      throw reader.malformed("\(count) relations announced, \(reader.remaining) bytes left")
    }
    return .truncate(relationCount: Int(count))
  }
}

// Tables and types.
extension PgOutputDecoder {
  private mutating func relation(_ reader: inout WireReader) throws(RelayError) -> Change {
    let id = try reader.uint32()
    let schema = try reader.text()
    let table = try reader.text()
    _ = try reader.uint8()  // Replica identity: of no meaning for inserts.
    let count = try Self.columnCount(&reader)
    var columns: [Relation.Column] = []
    columns.reserveCapacity(count)
    for _ in 0..<count {
      _ = try reader.uint8()  // Flags: part of the key.
      let name = try reader.text()
      let type = try reader.uint32()
      _ = try reader.uint32()  // Type modifier.
      columns.append(Relation.Column(name: name, type: columnType(type)))
    }
    try reader.end()
    relation = Relation(
      id: id, schema: schema.isEmpty ? "pg_catalog" : schema, table: table, columns: columns)
    columnCounts[id] = count
    lastID = id
    lastCount = count
    return .relation
  }

  private func columnType(_ oid: UInt32) -> ColumnType {
    .builtIn(oid: oid) ?? types[oid] ?? .other(oid: oid, name: "oid \(oid)")
  }

  /// A Type message has a domain's own oid, but the schema and name of its base type.
  private mutating func type(_ reader: inout WireReader) throws(RelayError) -> Change {
    let oid = try reader.uint32()
    let schema = try reader.text()
    let name = try reader.text()
    try reader.end()
    types[oid] =
      if schema.isEmpty || schema == "pg_catalog" {
        .builtIn(name: name, oid: oid)
      } else if name == "citext" {
        .text
      } else {
        .other(oid: oid, name: name)
      }
    return .other
  }
}

// Rows.
extension PgOutputDecoder {
  @inline(__always)
  private mutating func insert(_ reader: inout WireReader) throws(RelayError) -> Change {
    let id = try reader.uint32()
    let kind = try reader.uint8()
    guard kind == UInt8(ascii: "N") else { throw reader.malformed("an insert without its new row") }
    let count = try tuple(&reader, of: id, mayLackValues: false)
    try reader.end()
    // SAFETY: `tuple` filled the first `count` of the buffer's values, and count ≤ maximumColumns.
    let row = UnsafeBufferPointer(rebasing: values[..<count])
    return .insert(RowView(relationID: id, values: row))
  }

  private mutating func update(_ reader: inout WireReader) throws(RelayError) -> Change {
    let id = try reader.uint32()
    var kind = try reader.uint8()
    if kind == UInt8(ascii: "K") || kind == UInt8(ascii: "O") {
      _ = try tuple(&reader, of: id, mayLackValues: true)
      kind = try reader.uint8()
    }
    guard kind == UInt8(ascii: "N") else { throw reader.malformed("an update without its new row") }
    _ = try tuple(&reader, of: id, mayLackValues: true)
    try reader.end()
    return .update(relationID: id)
  }

  private mutating func delete(_ reader: inout WireReader) throws(RelayError) -> Change {
    let id = try reader.uint32()
    let kind = try reader.uint8()
    guard kind == UInt8(ascii: "K") || kind == UInt8(ascii: "O") else {
      throw reader.malformed("a delete without its old row")
    }
    _ = try tuple(&reader, of: id, mayLackValues: true)
    try reader.end()
    return .delete(relationID: id)
  }

  @inline(__always)
  private static func columnCount(_ reader: inout WireReader) throws(RelayError) -> Int {
    let count = Int(try reader.int16())
    guard count >= 0, count <= maximumColumns else {
      throw reader.malformed("\(count) columns; a table has 0 to \(maximumColumns)")
    }
    return count
  }

  /// Fills `values` and returns how many there are.
  @inline(__always)
  private mutating func tuple(
    _ reader: inout WireReader, of id: UInt32, mayLackValues: Bool
  ) throws(RelayError) -> Int {
    let count = try Self.columnCount(&reader)
    if id != lastID || lastCount < 0 {
      guard let known = columnCounts[id] else {
        throw reader.malformed("a row of relation \(id), which was not announced")
      }
      lastID = id
      lastCount = known
    }
    guard count == lastCount else {
      throw reader.malformed("a row of \(count) columns; relation \(id) has \(lastCount)")
    }
    for index in 0..<count {
      let kind = try reader.uint8()
      let value: ColumnValue
      switch kind {
      case UInt8(ascii: "b"):
        value = ColumnValue(format: .binary, bytes: try reader.bytes(try reader.uint32()))
      case UInt8(ascii: "t"):
        value = ColumnValue(format: .text, bytes: try reader.bytes(try reader.uint32()))
      case UInt8(ascii: "n"):
        value = ColumnValue(format: .null, bytes: LentBytes(start: nil, count: 0))
      case UInt8(ascii: "u") where mayLackValues:
        value = ColumnValue(format: .unchanged, bytes: LentBytes(start: nil, count: 0))
      default:
        throw reader.malformed("a value of kind \(kind) in column \(index + 1)")
      }
      // SAFETY: index < count ≤ maximumColumns, which is the buffer's capacity.
      values[index] = value
    }
    return count
  }
}
