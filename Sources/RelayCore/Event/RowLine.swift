// Owns: a row as one line of JSON: where it stands, its columns as Postgres' text, and the record it would become.
// Must not know: why it is written, where the line goes.
import Glibc

/// Writes rows that came in pgoutput's text format as JSON lines. The buffers are kept from row to row.
///
/// `{"table":"public.outbox","commit_lsn":"0/16B3748","index":0,"commit_time":"…","columns":{…},"record":{…}}` and a
/// newline. A column's value is Postgres' text of it (bytea: `\x…`) or null; bytes that are not UTF-8 stand as
/// `{"base64":"…"}`. `record` is what `RecordLine` makes of it, or null; `fault` then says why.
public struct RowLine: ~Copyable {
  /// What a person wants to know of a row.
  public struct Summary: Sendable {
    public var table: String
    /// Of the id column. Nil where there is none, or it is NULL.
    public var id: String?
    /// Nil where the row makes no record.
    public var topic: String?
    public var fault: String?
  }

  private struct Table {
    var relation: Relation
    var name: String
    var id: Int?
  }

  private let mappings: [OutboxMapping]
  private let isUTF8: Bool
  private var encoder: EventEncoder
  private var recordLine = RecordLine()
  private var writer = JSONWriter()
  private var arena = ByteArena()
  private var tables: [UInt32: Table] = [:]

  /// - Parameter isUTF8: false for a database of another encoding, whose texts come as they are.
  public init(mappings: [OutboxMapping], database: String, isUTF8: Bool) {
    self.mappings = mappings
    self.isUTF8 = isUTF8
    encoder = EventEncoder(mappings: mappings, database: database)
  }

  /// A table's shape has come.
  public mutating func prepare(_ relation: Relation) {
    encoder.prepare(relation)
    let mapping = mappings.mapping(of: relation.origin) ?? relation.outbox
    let id = mapping?.columns.id ?? "id"
    tables[relation.id] = Table(
      relation: relation, name: QualifiedName.text(relation.schema, relation.table),
      id: relation.columns.firstIndex { $0.name == id })
  }

  /// The row's line, with the newline. Valid until the next call.
  /// - Throws: `streamMalformed` for a row of a table whose shape has not come.
  public mutating func line(
    of row: RowView, commitLSN: LSN, commitTime: PostgresMicroseconds, index: RowIndex
  ) throws(RelayError) -> (line: LentBytes, summary: Summary) {
    guard let table = tables[row.relationID], table.relation.columns.count == row.values.count else {
      throw RelayError(
        .streamMalformed, "the server sent a row of relation \(row.relationID) without its description")
    }
    writer.reset()
    arena.reset()
    writer.raw(#"{"table":"#)
    put(table.name)
    writer.raw(#","commit_lsn":"#)
    put("\(commitLSN)")
    writer.raw(#","index":"#)
    raw("\(index)")
    writer.raw(#","commit_time":"#)
    put(RFC3339.string(microseconds: commitTime))
    writer.raw(#","columns":{"#)
    for (index, column) in table.relation.columns.enumerated() {
      if index > 0 { writer.raw(",") }
      put(column.name)
      writer.raw(":")
      put(row.values[index])
    }
    writer.raw(#"},"record":"#)
    var summary = Summary(table: table.name, id: table.id.flatMap { Self.text(row.values[$0]) })
    do throws(RelayError) {
      let record = try record(row, table, commitLSN: commitLSN, commitTime: commitTime, index: index)
      summary.topic = String(decoding: record.topic, as: UTF8.self)
      writer.raw(LentBytes(rebasing: recordLine.line(of: record).dropLast()))
      writer.raw("}\n")
    } catch {
      summary.fault = error.message
      writer.raw(#"null,"fault":"#)
      put(error.message)
      writer.raw("}\n")
    }
    return (writer.bytes, summary)
  }

  private mutating func record(
    _ row: RowView, _ table: Table, commitLSN: LSN, commitTime: PostgresMicroseconds, index: RowIndex
  ) throws(RelayError) -> Record {
    guard isUTF8 || row.values.allSatisfy({ $0.bytes.allSatisfy { $0 < 0x80 } }) else {
      throw RelayError(
        .rowRejected, "the database's encoding is not UTF8, and the row has non-ASCII characters")
    }
    let values = arena.reserve(row.values.count * MemoryLayout<ColumnValue>.stride + 16)
      .alignedUp(for: ColumnValue.self).assumingMemoryBound(to: ColumnValue.self)
    for (index, value) in row.values.enumerated() {
      // SAFETY: there is room for as many values as the row has, aligned; they are trivial and need no end.
      (values + index).initialize(to: binary(value, table.relation.columns[index].type.form))
    }
    let converted = RowView(
      relationID: row.relationID, values: UnsafeBufferPointer(start: values, count: row.values.count))
    guard
      let record = try encoder.encode(converted, commitLSN: commitLSN, commitTime: commitTime, index: index)
    else { throw RelayError(.failed, "the row was not selected") }
    return record
  }

  /// The binary form, where the encoder reads that only. A text that has none stays what it is.
  private mutating func binary(_ value: ColumnValue, _ form: ColumnType.Form) -> ColumnValue {
    value.format == .text && form == .bytea ? bytea(value) : value
  }

  private mutating func bytea(_ value: ColumnValue) -> ColumnValue {
    guard value.bytes.starts(with: [0x5C, 0x78]), value.bytes.count % 2 == 0 else { return value }
    let digits = LentBytes(rebasing: value.bytes[2...])
    let target = arena.reserve(digits.count / 2 + 1)
    for index in 0..<digits.count / 2 {
      guard let high = Self.digit(digits[index * 2]), let low = Self.digit(digits[index * 2 + 1]) else {
        return value
      }
      // SAFETY: there is room for one byte for each two digits.
      target.storeBytes(of: high << 4 | low, toByteOffset: index, as: UInt8.self)
    }
    return ColumnValue(format: .binary, bytes: LentBytes(start: target, count: digits.count / 2))
  }

  private static func digit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case 0x30...0x39: byte - 0x30
    case 0x41...0x46: byte - 0x37
    case 0x61...0x66: byte - 0x57
    default: nil
    }
  }

  private mutating func put(_ value: ColumnValue) {
    if value.format == .null || value.format == .unchanged { return writer.raw("null") }
    if isUTF8 ? UTF8Rules.isValid(value.bytes) : value.bytes.allSatisfy({ $0 < 0x80 }) {
      return writer.string(value.bytes)
    }
    writer.raw(#"{"base64":"#)
    writer.base64(value.bytes)
    writer.raw("}")
  }

  private mutating func put(_ text: String) {
    Array(text.utf8).withUnsafeBytes { writer.string($0) }
  }

  private mutating func raw(_ text: String) {
    Array(text.utf8).withUnsafeBytes { writer.raw($0) }
  }

  private static func text(_ value: ColumnValue) -> String? {
    value.format == .null ? nil : String(decoding: value.bytes.prefix(200), as: UTF8.self)
  }
}
