// Owns: numbers and uuid as text, from Postgres' binary format.
// Must not know: what the text is for.

enum NumberText {
  @inline(__always)
  static func uuid(_ bytes: LentBytes, arena: inout ByteArena) -> LentBytes {
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

  static func decimal(_ number: Int64, arena: inout ByteArena) -> LentBytes {
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

  /// A float4 or float8. Nil where the bytes are none.
  static func float(_ bytes: LentBytes, form: ColumnType.Form, arena: inout ByteArena) -> LentBytes? {
    guard bytes.count == (form == .float4 ? 4 : 8) else { return nil }
    let target = arena.reserve(FloatText.maximumCount)
    let count =
      form == .float4
      ? FloatText.write(Float(bitPattern: bytes.bigEndian(UInt32.self, at: 0)), to: target)
      : FloatText.write(Double(bitPattern: bytes.bigEndian(UInt64.self, at: 0)), to: target)
    return LentBytes(start: target, count: count)
  }

  /// numeric_send: digits, weight, sign, scale (16 bits each), then digits of base 10,000. Nil where the bytes are none.
  static func numeric(_ bytes: LentBytes, arena: inout ByteArena) -> LentBytes? {
    guard bytes.count >= 8 else { return nil }
    let digitCount = Int(bytes.bigEndian(UInt16.self, at: 0))
    let scale = Int(bytes.bigEndian(UInt16.self, at: 6))
    guard bytes.count == 8 + digitCount * 2, scale <= 0x3FFF else { return nil }
    let sign = bytes.bigEndian(UInt16.self, at: 4)
    switch sign {
    case 0xC000: return ValueText.staticText("NaN")
    case 0xD000: return ValueText.staticText("Infinity")
    case 0xF000: return ValueText.staticText("-Infinity")
    case 0, 0x4000: break
    default: return nil
    }
    return digits(
      LentBytes(rebasing: bytes[8...]), weight: Int(Int16(bitPattern: bytes.bigEndian(UInt16.self, at: 2))),
      isNegative: sign == 0x4000, scale: scale, arena: &arena)
  }

  /// - Parameters:
  ///   - groups: four decimal digits in each two bytes.
  ///   - weight: how many groups stand before the point, less one.
  ///   - scale: how many digits stand behind it.
  private static func digits(
    _ groups: LentBytes, weight: Int, isNegative: Bool, scale: Int, arena: inout ByteArena
  ) -> LentBytes {
    // SAFETY: a sign, four digits for each group before the point, the point, and `scale` digits (written
    // in groups, so up to three more) are all that is written.
    let target = arena.reserve(1 + max(1, weight + 1) * 4 + 1 + scale + 4).assumingMemoryBound(to: UInt8.self)
    var count = 0
    func put(_ byte: Int) {
      target[count] = UInt8(truncatingIfNeeded: byte)
      count += 1
    }
    func put(group index: Int, isFirst: Bool = false) {
      let isThere = index >= 0 && index < groups.count / 2
      let value = isThere ? Int(groups.bigEndian(UInt16.self, at: index * 2)) % 10_000 : 0
      if !isFirst || value >= 1000 { put(0x30 + value / 1000) }
      if !isFirst || value >= 100 { put(0x30 + value / 100 % 10) }
      if !isFirst || value >= 10 { put(0x30 + value / 10 % 10) }
      put(0x30 + value % 10)
    }
    if isNegative { put(0x2D) }
    if weight < 0 { put(0x30) }
    for index in 0..<max(0, weight + 1) { put(group: index, isFirst: index == 0) }
    if scale > 0 {
      put(0x2E)
      let end = count + scale
      var index = weight + 1
      while count < end {
        put(group: index)
        index += 1
      }
      count = end
    }
    return LentBytes(start: target, count: count)
  }
}
