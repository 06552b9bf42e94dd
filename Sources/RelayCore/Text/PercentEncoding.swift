// Owns: what of a text must be percent-encoded in a URI (RFC 3986).
// Must not know: what the URI is for.

enum PercentEncoding {
  /// A name as one segment of a path: what is neither unreserved, nor a sub-delimiter, nor `:` or `@`, is encoded.
  static func segment(_ name: String) -> String {
    let bytes = name.utf8.flatMap { byte in
      isReference(byte) && !"/?#[]".utf8.contains(byte) ? [byte] : [0x25, digit(byte >> 4), digit(byte & 15)]
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// A text that may be a whole reference: only what no reference may hold is encoded, so that one that is valid stays
  /// as it is. Lent from the text itself then, else from `arena`.
  static func reference(_ text: LentBytes, into arena: inout ByteArena) -> LentBytes {
    var escaped = 0
    for index in 0..<text.count where !stands(text, at: index) { escaped += 1 }
    if escaped == 0 { return text }
    var cursor = ByteCursor(arena.reserve(text.count + 2 * escaped))
    let target = cursor.start
    for index in 0..<text.count {
      if stands(text, at: index) {
        cursor.put(byte: text[index])
      } else {
        cursor.put(byte: 0x25)
        cursor.put(byte: digit(text[index] >> 4))
        cursor.put(byte: digit(text[index] & 15))
      }
    }
    return LentBytes(start: target, count: cursor.count)
  }

  /// True for a byte that a reference may hold where it is; a `%` only before two digits.
  private static func stands(_ text: LentBytes, at index: Int) -> Bool {
    guard text[index] == 0x25 else { return isReference(text[index]) }
    return text.count - index > 2 && text[index + 1].isHexDigit && text[index + 2].isHexDigit
  }

  /// Unreserved and reserved: ! # $ & ' ( ) * + , - . / 0-9 : ; = ? @ A-Z [ ] _ a-z ~
  static func isReference(_ byte: UInt8) -> Bool {
    switch byte {
    case 0x21, 0x23, 0x24, 0x26...0x3B, 0x3D, 0x3F...0x5B, 0x5D, 0x5F, 0x61...0x7A, 0x7E: true
    default: false
    }
  }

  /// In upper case, as RFC 3986 has it.
  private static func digit(_ value: UInt8) -> UInt8 { value < 10 ? 0x30 + value : 0x37 + value }
}
