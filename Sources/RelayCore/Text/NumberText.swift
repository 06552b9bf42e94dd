// Owns: integers, numeric and uuid as text, from Postgres' binary format.
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

  /// numeric_send: digits, weight, sign, scale (16 bits each), then digits of base 10,000.
  static func numeric(_ bytes: LentBytes, arena: inout ByteArena) -> LentBytes? {
    guard bytes.count >= 8 else { return nil }
    let digitCount = Int(bytes.bigEndian(UInt16.self, at: 0))
    let weight = Int(Int16(bitPattern: bytes.bigEndian(UInt16.self, at: 2)))
    let sign = bytes.bigEndian(UInt16.self, at: 4)
    let scale = Int(bytes.bigEndian(UInt16.self, at: 6))
    guard bytes.count == 8 + digitCount * 2, scale <= 0x3FFF else { return nil }
    switch sign {
    case 0xC000: return ValueText.staticText("NaN")
    case 0xD000: return ValueText.staticText("Infinity")
    case 0xF000: return ValueText.staticText("-Infinity")
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
}
