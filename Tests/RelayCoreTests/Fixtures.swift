// Rows, relations and a reproducible source of randomness for the tests of this folder.
import RelayCore

/// SplitMix64: small, and the same on every machine.
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  mutating func chance(_ oneIn: Int) -> Bool { Int.random(in: 0..<oneIn, using: &self) == 0 }
}

/// A seed for this run; the tests print it.
func freshSeed() -> UInt64 { UInt64.random(in: 1...UInt64(UInt32.max)) }

/// Owns the bytes of one row.
final class Row {
  enum Value {
    case null
    case text(String)
    case bytes([UInt8])
  }

  private var storage: [UnsafeMutableRawBufferPointer] = []
  private let values: UnsafeMutableBufferPointer<ColumnValue>
  let relationID: UInt32

  /// Texts are the binary format of a text column; anything else is given as bytes.
  init(_ row: [Value], relationID: UInt32 = 1) {
    self.relationID = relationID
    values = .allocate(capacity: row.count)
    for (index, value) in row.enumerated() {
      switch value {
      case .null: put(index, .null, [])
      case .text(let text): put(index, .binary, Array(text.utf8))
      case .bytes(let bytes): put(index, .binary, bytes)
      }
    }
  }

  deinit {
    for buffer in storage { buffer.deallocate() }
    values.deallocate()
  }

  private func put(_ index: Int, _ format: ColumnValue.Format, _ bytes: [UInt8]) {
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, bytes.count), alignment: 1)
    buffer.copyBytes(from: bytes)
    storage.append(buffer)
    (values.baseAddress! + index).initialize(
      to: ColumnValue(format: format, bytes: LentBytes(rebasing: buffer[..<bytes.count])))
  }

  var view: RowView { RowView(relationID: relationID, values: UnsafeBufferPointer(values)) }
}

/// A record copied out of its lent bytes.
struct CopiedRecord: Equatable {
  var topic: String
  var key: [UInt8]?
  var value: [UInt8]?
  var headers: [String]

  init(_ record: Record) {
    topic = String(decoding: record.topic, as: UTF8.self)
    key = record.key.map(Array.init)
    value = record.value.map(Array.init)
    headers = record.headers.map {
      String(decoding: $0.name, as: UTF8.self) + ": " + String(decoding: $0.value, as: UTF8.self)
    }
  }

  var text: String? { value.map { String(decoding: $0, as: UTF8.self) } }
  var keyText: String? { key.map { String(decoding: $0, as: UTF8.self) } }
  func header(_ name: String) -> String? {
    headers.first { $0.hasPrefix(name + ": ") }.map { String($0.dropFirst(name.count + 2)) }
  }
}

func bigEndian<Integer: FixedWidthInteger>(_ value: Integer) -> [UInt8] {
  withUnsafeBytes(of: value.bigEndian, Array.init)
}

func relation(_ columns: [(String, ColumnType)], table: String = "outbox", id: UInt32 = 1) -> Relation {
  Relation(
    id: id, schema: "public", table: table,
    columns: columns.map { Relation.Column(name: $0.0, type: $0.1) })
}

/// Debezium's columns, with a text payload type of choice.
func outboxRelation(payload: ColumnType = .jsonb, extra: [(String, ColumnType)] = []) -> Relation {
  relation(
    [
      ("id", .uuid), ("aggregatetype", .text), ("aggregateid", .text), ("type", .text),
      ("payload", payload),
    ] + extra)
}

let sampleUUID: [UInt8] = [
  0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF, 0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE,
]

/// A row for `outboxRelation`.
func outboxRow(payload: Row.Value? = nil, extra: [Row.Value] = [], relationID: UInt32 = 1) -> Row {
  Row(
    [
      .bytes(sampleUUID), .text("order"), .text("o-1"), .text("OrderPlaced"),
      payload ?? .bytes([1] + Array(#"{"n": 1.0}"#.utf8)),
    ] + extra, relationID: relationID)
}

/// A message that was written by hand, lent for the duration of `body`.
func message<Result>(
  _ headers: [(name: String, value: String)], _ value: String?, _ body: (Record) throws -> Result
) rethrows -> Result {
  var storage: [UnsafeMutableRawBufferPointer] = []
  defer { for buffer in storage { buffer.deallocate() } }
  func lend(_ text: String) -> LentBytes {
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, text.utf8.count), alignment: 1)
    buffer.copyBytes(from: Array(text.utf8))
    storage.append(buffer)
    return LentBytes(rebasing: buffer[..<text.utf8.count])
  }
  let list = headers.map { RecordHeader(name: lend($0.name), value: lend($0.value)) }
  return try list.withUnsafeBufferPointer {
    try body(Record(topic: lend("t"), key: nil, value: value.map(lend), headers: $0))
  }
}
