// Owns: the text form of a column's value, from Postgres' binary format (src/backend/utils/adt/*send).
// Must not know: what the text is for.

/// Why a row cannot become an event: the part concerned, and the reason. The encoder adds the place.
struct RowFault: Error {
  var part: String
  var reason: String

  init(_ part: String, _ reason: String) {
    self.part = part
    self.reason = reason
  }
}

enum ValueText {
  /// True where a text of the type may hold anything a user wrote, and must be checked.
  static func isFree(_ form: ColumnType.Form) -> Bool {
    switch form {
    case .text, .json, .jsonb, .xml, .other: true
    default: false
    }
  }

  /// The text of a value that is not NULL. Lent from the row where the bytes are the text, else from `arena`.
  /// - Throws: where the bytes are not of the type, or have no text form.
  @inline(__always)
  static func text(
    of value: ColumnValue, form: ColumnType.Form, part: String, arena: inout ByteArena
  ) throws(RowFault) -> LentBytes {
    if value.format == .binary {
      if form == .text { return value.bytes }
      if form == .uuid, value.bytes.count == 16 { return uuid(value.bytes, arena: &arena) }
    }
    return try rendered(value, form: form, part: part, arena: &arena)
  }

  private static func rendered(
    _ value: ColumnValue, form: ColumnType.Form, part: String, arena: inout ByteArena
  ) throws(RowFault) -> LentBytes {
    let bytes = value.bytes
    guard value.format == .binary else { return try textFormat(value, form: form, part: part) }
    switch form {
    case .text, .json, .xml, .other: return bytes
    case .jsonb:
      guard let text = jsonb(bytes) else { throw RowFault(part, "the jsonb has an unknown version") }
      return text
    case .uuid: throw wrongSize(part, form, bytes)
    case .bytea:
      let target = arena.reserve(Base64.count(of: bytes.count))
      return LentBytes(start: target, count: Base64.write(bytes, to: target))
    case .bool:
      guard bytes.count == 1 else { throw wrongSize(part, form, bytes) }
      return bytes[0] != 0 ? staticText("true") : staticText("false")
    case .int2, .int4, .int8:
      guard let number = integer(bytes, form: form) else { throw wrongSize(part, form, bytes) }
      return decimal(number, arena: &arena)
    case .float4:
      guard bytes.count == 4 else { throw wrongSize(part, form, bytes) }
      return copy(Float(bitPattern: bytes.bigEndian(UInt32.self, at: 0)).description, arena: &arena)
    case .float8:
      guard bytes.count == 8 else { throw wrongSize(part, form, bytes) }
      return copy(Double(bitPattern: bytes.bigEndian(UInt64.self, at: 0)).description, arena: &arena)
    case .numeric:
      guard let text = numeric(bytes, arena: &arena) else { throw wrongSize(part, form, bytes) }
      return text
    case .timestamp, .timestamptz:
      guard bytes.count == 8 else { throw wrongSize(part, form, bytes) }
      return try time(Int64(bitPattern: bytes.bigEndian(UInt64.self, at: 0)), part: part, arena: &arena)
    case .date:
      guard bytes.count == 4 else { throw wrongSize(part, form, bytes) }
      let days = Int64(Int32(bitPattern: bytes.bigEndian(UInt32.self, at: 0)))
      let text = try time(days * 86_400_000_000, part: part, arena: &arena)
      return LentBytes(rebasing: text[..<10])
    }
  }

  /// The few types that have no binary form arrive as text; so would all, if a server sent text.
  private static func textFormat(
    _ value: ColumnValue, form: ColumnType.Form, part: String
  ) throws(RowFault) -> LentBytes {
    switch form {
    case .bool: return value.bytes.first == 0x74 ? staticText("true") : staticText("false")
    case .timestamp, .timestamptz, .date, .bytea:
      throw RowFault(part, "the server sent a \(form) in text format")
    default: return value.bytes
    }
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

  static func time(
    _ time: PostgresMicroseconds, part: String, arena: inout ByteArena
  ) throws(RowFault) -> LentBytes {
    let target = arena.reserve(RFC3339.maximumCount)
    guard let count = RFC3339.write(time, to: target) else { throw timeless(part) }
    return LentBytes(start: target, count: count)
  }

  static func timeless(_ part: String) -> RowFault {
    RowFault(part, "the time is infinite, or outside the years 1 to 9999, and has no RFC 3339 form")
  }

  @inline(__always)
  private static func uuid(_ bytes: LentBytes, arena: inout ByteArena) -> LentBytes {
    // SAFETY: the caller has 16 bytes. They make 32 digits, in groups of 8, 4, 4, 4 and 12, and 4 hyphens.
    let target = arena.reserve(36)
    func digits(_ offset: Int) -> UInt64 { Hexadecimal.digits(bytes.bigEndian(UInt32.self, at: offset)) }
    func put(_ value: some FixedWidthInteger & BitwiseCopyable, at offset: Int) {
      target.storeBytes(of: value.bigEndian, toByteOffset: offset, as: type(of: value))
    }
    let hyphen: UInt8 = 0x2D
    put(digits(0), at: 0)
    put(hyphen, at: 8)
    let second = digits(4)
    put(UInt32(truncatingIfNeeded: second >> 32), at: 9)
    put(hyphen, at: 13)
    put(UInt32(truncatingIfNeeded: second), at: 14)
    put(hyphen, at: 18)
    let third = digits(8)
    put(UInt32(truncatingIfNeeded: third >> 32), at: 19)
    put(hyphen, at: 23)
    put(UInt32(truncatingIfNeeded: third), at: 24)
    put(digits(12), at: 28)
    return LentBytes(start: target, count: 36)
  }

  private static func decimal(_ number: Int64, arena: inout ByteArena) -> LentBytes {
    // SAFETY: a sign and 19 digits at most, written from the end of 20 bytes.
    let target = arena.reserve(20).assumingMemoryBound(to: UInt8.self)
    var position = 20
    var magnitude = number.magnitude
    repeat {
      position -= 1
      target[position] = 0x30 + UInt8(truncatingIfNeeded: magnitude % 10)
      magnitude /= 10
    } while magnitude > 0
    if number < 0 {
      position -= 1
      target[position] = 0x2D
    }
    return LentBytes(start: target + position, count: 20 - position)
  }

  /// numeric_send: digits, weight, sign, scale (16 bits each), then digits of base 10,000.
  private static func numeric(_ bytes: LentBytes, arena: inout ByteArena) -> LentBytes? {
    guard bytes.count >= 8 else { return nil }
    let digitCount = Int(bytes.bigEndian(UInt16.self, at: 0))
    let weight = Int(Int16(bitPattern: bytes.bigEndian(UInt16.self, at: 2)))
    let sign = bytes.bigEndian(UInt16.self, at: 4)
    let scale = Int(bytes.bigEndian(UInt16.self, at: 6))
    guard bytes.count == 8 + digitCount * 2, scale <= 0x3FFF else { return nil }
    switch sign {
    case 0xC000: return staticText("NaN")
    case 0xD000: return staticText("Infinity")
    case 0xF000: return staticText("-Infinity")
    case 0, 0x4000: break
    default: return nil
    }
    let capacity = 1 + max(1, weight + 1) * 4 + 1 + scale + 4
    // SAFETY: a sign, four digits for each group before the point, the point, and `scale` digits (written
    // in groups, so up to three more) are all that is written.
    let target = arena.reserve(capacity).assumingMemoryBound(to: UInt8.self)
    var count = 0
    func group(_ index: Int) -> Int {
      index >= 0 && index < digitCount ? Int(bytes.bigEndian(UInt16.self, at: 8 + index * 2)) % 10_000 : 0
    }
    func put(_ digit: Int) {
      target[count] = UInt8(truncatingIfNeeded: 0x30 + digit)
      count += 1
    }
    if sign == 0x4000 { target[count] = 0x2D; count += 1 }
    if weight < 0 {
      put(0)
    } else {
      for index in 0...weight {
        let value = group(index)
        if index > 0 || value >= 1000 { put(value / 1000) }
        if index > 0 || value >= 100 { put(value / 100 % 10) }
        if index > 0 || value >= 10 { put(value / 10 % 10) }
        put(value % 10)
      }
    }
    if scale > 0 {
      target[count] = 0x2E
      count += 1
      let end = count + scale
      var index = weight + 1
      while count < end {
        let value = group(index)
        put(value / 1000)
        put(value / 100 % 10)
        put(value / 10 % 10)
        put(value % 10)
        index += 1
      }
      count = end
    }
    return LentBytes(start: target, count: count)
  }

  private static func copy(_ text: String, arena: inout ByteArena) -> LentBytes {
    let utf8 = Array(text.utf8)
    return utf8.withUnsafeBytes { arena.copy($0) }
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
