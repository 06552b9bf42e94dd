// Owns: which bytes are UTF-8.
// Must not know: what the text is for.

/// UTF-8 (RFC 3629).
enum UTF8Rules {
  static func isValid(_ bytes: LentBytes) -> Bool {
    var index = 0
    while index < bytes.count {
      if bytes[index] < 0x80 {
        index += 1
      } else {
        guard let (_, length) = scalar(bytes, at: index) else { return false }
        index += length
      }
    }
    return true
  }

  /// The scalar that begins at `index`, a byte of 0x80 or more, and its length. Nil if it is none.
  static func scalar(_ bytes: LentBytes, at index: Int) -> (value: UInt32, length: Int)? {
    let first = bytes[index]
    let length: Int
    var value: UInt32
    switch first {
    case 0xC2...0xDF: (length, value) = (2, UInt32(first & 0x1F))
    case 0xE0...0xEF: (length, value) = (3, UInt32(first & 0x0F))
    case 0xF0...0xF4: (length, value) = (4, UInt32(first & 0x07))
    default: return nil
    }
    guard bytes.count - index >= length else { return nil }
    for offset in 1..<length {
      let byte = bytes[index + offset]
      guard byte & 0xC0 == 0x80 else { return nil }
      value = value << 6 | UInt32(byte & 0x3F)
    }
    switch value {
    case 0..<0x80, 0xD800...0xDFFF, 0x11_0000...: return nil
    case 0x80..<0x800 where length > 2, 0x800..<0x1_0000 where length > 3: return nil
    default: return (value, length)
    }
  }
}
