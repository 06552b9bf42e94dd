// Owns: one answer to FETCH, in binary; and which place each synthetic transaction ends at.
// Must not know: cursors, the statement.
import CLibpq
import RelayCore

/// Rows that the server has sent. Values are valid as long as this object lives.
final class TableBatch {
  private let result: OpaquePointer
  let count: Int
  /// What it takes in memory.
  let bytes: Int

  /// Takes the result over.
  init(_ result: OpaquePointer) {
    self.result = result
    // SAFETY (all calls): the result is alive until deinit.
    count = Int(PQntuples(result))
    bytes = PQresultMemorySize(result)
  }

  deinit {
    // SAFETY: the result is this object's own and is used by nobody afterwards.
    PQclear(result)
  }

  func value(_ row: Int, _ column: Int, isText: Bool) -> ColumnValue {
    // SAFETY: row and column are within the result, which the callers take from its own counts; libpq keeps the value
    // until the result is cleared.
    guard PQgetisnull(result, Int32(row), Int32(column)) == 0,
      let start = PQgetvalue(result, Int32(row), Int32(column))
    else { return ColumnValue(format: .null, bytes: LentBytes(start: nil, count: 0)) }
    let length = Int(PQgetlength(result, Int32(row), Int32(column)))
    return ColumnValue(format: isText ? .text : .binary, bytes: LentBytes(start: start, count: length))
  }

  /// The answer is one row that begins with a `t`, in text.
  var isTrue: Bool {
    guard count == 1 else { return false }
    // SAFETY: row 0 exists, and a text value has a first byte of its own: NUL where it is empty.
    return PQgetvalue(result, 0, 0)?.pointee == CChar(UInt8(ascii: "t"))
  }

  /// A value of eight bytes: bigint, timestamp or timestamptz.
  func int64(_ row: Int, _ column: Int) throws(RelayError) -> Int64 {
    Int64(bitPattern: try integer(row, column, UInt64.self))
  }

  private func integer<Number: FixedWidthInteger>(
    _ row: Int, _ column: Int, _ type: Number.Type, at offset: Int = 0
  ) throws(RelayError) -> Number {
    let bytes = value(row, column, isText: false).bytes
    guard bytes.count >= offset + MemoryLayout<Number>.size else {
      throw RelayError(.streamMalformed, "column \(column + 1) of a table's row has \(bytes.count) bytes")
    }
    // SAFETY: offset and size are within the value, checked above.
    return Number(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: Number.self))
  }

  /// The last column: whether the row belongs to the range for certain.
  func isCertain(_ row: Int) throws(RelayError) -> Bool {
    try integer(row, Int(PQnfields(result)) - 1, UInt8.self) != 0
  }

  /// The place of a row, from the columns that `TableQuery.select` adds to the table's.
  func place(_ row: Int, _ query: TableQuery) throws(RelayError) -> TablePlace {
    var column = query.shape.columns.count
    func next() -> Int {
      defer { column += 1 }
      return column
    }
    let time = query.tracksCommitTimes ? try int64(row, next()) : nil
    let second = query.hasSecondKey ? try int64(row, next()) : nil
    return TablePlace(commitTime: time, second: second)
  }
}

/// The last row of each synthetic transaction that is not settled yet.
struct TablePlaces {
  private struct Entry {
    var end: LSN
    var table: Int
    /// Nil: it stands before the place where the read was taken up.
    var place: TablePlace?
  }

  /// Where the read was taken up.
  private let start: String?
  private var entries: ContiguousArray<Entry> = []
  private var head = 0

  init(start: String? = nil) { self.start = start }

  mutating func append(_ end: LSN, _ table: Int, _ place: TablePlace?) {
    entries.append(Entry(end: end, table: table, place: place))
  }

  /// Keeps the newest place at or before `checkpoint`, and those after it.
  mutating func forget(before checkpoint: LSN) {
    while head + 1 < entries.count, entries[head + 1].end <= checkpoint { head += 1 }
    if head > 1024, head > entries.count / 2 {
      entries.removeFirst(head)
      head = 0
    }
  }

  func position(after checkpoint: LSN, _ text: (Int, TablePlace) -> String) -> String? {
    // Numbers ascend by one.
    guard head < entries.count, checkpoint >= entries[head].end else { return start }
    let index = min(entries.count - 1, head + Int(clamping: checkpoint.rawValue - entries[head].end.rawValue))
    return entries[index].place.map { text(entries[index].table, $0) } ?? start
  }
}
