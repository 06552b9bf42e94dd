// Owns: the text form of a column's value, from Postgres' binary format (src/backend/utils/adt/*send).
// Must not know: what the text is for.

enum ValueText {
  /// True where a text of the type may hold anything a user wrote, and must be checked.
  static func isFree(_ form: ColumnType.Form) -> Bool {
    switch form {
    case .text, .bpchar, .json, .jsonb, .xml, .other: true
    default: false
    }
  }

  /// The text of a value that is not NULL: what `value::text` is, but RFC 3339 for times and base64 for bytes. Lent from
  /// the row where the bytes are the text, else from `arena`.
  /// - Throws: where the bytes are not of the type.
  @inline(__always)
  static func text(
    of value: ColumnValue, _ source: ColumnSource, part: String, arena: inout ByteArena
  ) throws(RowFault) -> LentBytes {
    if value.format == .binary {
      if source.form == .text { return value.bytes }
      if source.form == .uuid, value.bytes.count == 16 { return NumberText.uuid(value.bytes, arena: &arena) }
    }
    return try rendered(value, source, part: part, arena: &arena)
  }

  private static func rendered(
    _ value: ColumnValue, _ source: ColumnSource, part: String, arena: inout ByteArena
  ) throws(RowFault) -> LentBytes {
    let (bytes, form) = (value.bytes, source.form)
    guard value.format == .binary else {
      return try textFormat(value, source, part: part, arena: &arena)
    }
    switch form {
    case .text, .json, .xml, .other: return bytes
    case .bpchar: return unpadded(bytes)
    case .jsonb:
      guard let text = jsonb(bytes) else { throw RowFault(part, "the jsonb has an unknown version") }
      return text
    case .bytea:
      let target = arena.reserve(Base64.count(of: bytes.count))
      return LentBytes(start: target, count: Base64.write(bytes, to: target))
    case .bool:
      guard bytes.count == 1 else { throw wrongSize(part, form, bytes) }
      return bytes[0] != 0 ? staticText("true") : staticText("false")
    case .int2, .int4, .int8:
      guard let number = integer(bytes, form: form) else { throw wrongSize(part, form, bytes) }
      return NumberText.decimal(number, arena: &arena)
    case .float4, .float8:
      guard let text = NumberText.float(bytes, form: form, arena: &arena) else {
        throw wrongSize(part, form, bytes)
      }
      return text
    case .numeric:
      guard let text = NumberText.numeric(bytes, arena: &arena) else { throw wrongSize(part, form, bytes) }
      return text
    case .timestamp, .timestamptz:
      guard let moment = moment(bytes, source) else { throw wrongSize(part, form, bytes) }
      return time(moment, isZoned: form == .timestamptz || source.zone != nil, arena: &arena)
    case .date:
      guard let text = date(bytes, arena: &arena) else { throw wrongSize(part, form, bytes) }
      return text
    case .uuid: throw wrongSize(part, form, bytes)
    }
  }

  /// The few types that have no binary form arrive as text; so do all, where a session asks for it. Every session has
  /// DateStyle ISO and TimeZone UTC.
  private static func textFormat(
    _ value: ColumnValue, _ source: ColumnSource, part: String, arena: inout ByteArena
  ) throws(RowFault) -> LentBytes {
    switch source.form {
    case .bool: return value.bytes.first == 0x74 ? staticText("true") : staticText("false")
    case .bpchar: return unpadded(value.bytes)
    case .timestamp, .timestamptz:
      let suffix = source.form == .timestamptz ? ":00" : "Z"
      // What RFC 3339 cannot tell stays as Postgres prints it.
      guard let time = try? RFC3339.parse(String(decoding: value.bytes, as: UTF8.self) + suffix) else {
        return value.bytes
      }
      let isZoned = source.form == .timestamptz || source.zone != nil
      return Self.time(source.zone?.moment(local: time) ?? time, isZoned: isZoned, arena: &arena)
    case .bytea: throw RowFault(part, "the server sent a bytea in text format")
    default: return value.bytes
    }
  }

  /// As the cast from `character(n)` to `text` does it: the blanks at the end are padding.
  private static func unpadded(_ bytes: LentBytes) -> LentBytes {
    var count = bytes.count
    while count > 0, bytes[count - 1] == 0x20 { count -= 1 }
    return LentBytes(rebasing: bytes[..<count])
  }

  /// The JSON text within a jsonb value.
  static func jsonb(_ bytes: LentBytes) -> LentBytes? {
    guard let version = bytes.first, version == 1 else { return nil }
    return LentBytes(rebasing: bytes[1...])
  }

  static func integer(_ bytes: LentBytes, form: ColumnType.Form) -> Int64? {
    switch (form, bytes.count) {
    case (.int2, 2): Int64(Int16(bitPattern: bytes.bigEndian(UInt16.self, at: 0)))
    case (.int4, 4): Int64(Int32(bitPattern: bytes.bigEndian(UInt32.self, at: 0)))
    case (.int8, 8): Int64(bitPattern: bytes.bigEndian(UInt64.self, at: 0))
    default: nil
    }
  }

  /// The moment of a timestamp or timestamptz. Nil where the bytes are none.
  static func moment(_ bytes: LentBytes, _ source: ColumnSource) -> PostgresMicroseconds? {
    guard bytes.count == 8 else { return nil }
    let time = Int64(bitPattern: bytes.bigEndian(UInt64.self, at: 0))
    return source.zone?.moment(local: time) ?? time
  }

  /// RFC 3339, or what Postgres prints where the year is none of RFC 3339's.
  private static func time(
    _ time: PostgresMicroseconds, isZoned: Bool, arena: inout ByteArena
  ) -> LentBytes {
    let target = arena.reserve(max(RFC3339.maximumCount, DateTimeText.maximumCount))
    let count = RFC3339.write(time, to: target) ?? DateTimeText.write(time, isZoned: isZoned, to: target)
    return LentBytes(start: target, count: count)
  }

  private static func date(_ bytes: LentBytes, arena: inout ByteArena) -> LentBytes? {
    guard bytes.count == 4 else { return nil }
    let target = arena.reserve(DateTimeText.maximumCount)
    let days = Int32(bitPattern: bytes.bigEndian(UInt32.self, at: 0))
    return LentBytes(start: target, count: DateTimeText.write(days: days, to: target))
  }

  /// The bytes of a literal; they never go away.
  static func staticText(_ text: StaticString) -> LentBytes {
    // SAFETY: a static string of more than one scalar has a pointer to its UTF-8.
    LentBytes(start: text.utf8Start, count: text.utf8CodeUnitCount)
  }

  private static func wrongSize(_ part: String, _ form: ColumnType.Form, _ bytes: LentBytes) -> RowFault {
    RowFault(part, "\(bytes.count) bytes are not a \(form)")
  }
}

extension UnsafeRawBufferPointer {
  /// A big-endian integer at `offset`. The caller has checked that it lies within.
  @inline(__always)
  func bigEndian<Integer: FixedWidthInteger & BitwiseCopyable>(
    _ type: Integer.Type, at offset: Int
  ) -> Integer {
    Integer(bigEndian: loadUnaligned(fromByteOffset: offset, as: type))
  }
}
