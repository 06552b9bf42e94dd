// Owns: reading JSON (RFC 8259) without building anything: is it valid, and what are an object's members.
// Must not know: CloudEvents.

/// A cursor over JSON text. Every read is checked against the end.
struct JSONScanner {
  /// The deepest nesting that is accepted.
  static let maximumDepth = 512

  enum Kind: BitwiseCopyable { case string, number, boolean, null, object, array }

  private let bytes: LentBytes
  private(set) var position = 0
  /// The text was left because a value in it is nested deeper than `maximumDepth`, which JSON itself allows.
  private(set) var isTooDeep = false

  init(_ bytes: LentBytes) { self.bytes = bytes }

  /// True if `bytes` is one JSON value with nothing but white space around it.
  static func isValid(_ bytes: LentBytes) -> Bool {
    var scanner = JSONScanner(bytes)
    return scanner.skipDocument()
  }

  /// Steps over one value with nothing but white space around it. False if something else stands there.
  mutating func skipDocument() -> Bool {
    guard skipValue() != nil else { return false }
    skipSpace()
    return isAtEnd
  }

  var isAtEnd: Bool { position == bytes.count }
  /// A string begins here.
  var isAtQuote: Bool { position < bytes.count && bytes[position] == 0x22 }

  func slice(from start: Int) -> LentBytes { LentBytes(rebasing: bytes[start..<position]) }

  mutating func skipSpace() {
    while position < bytes.count {
      switch bytes[position] {
      case 0x20, 0x09, 0x0A, 0x0D: position += 1
      default: return
      }
    }
  }

  /// Steps over `byte` after white space. False if something else stands there.
  mutating func take(_ byte: UInt8) -> Bool {
    skipSpace()
    guard position < bytes.count, bytes[position] == byte else { return false }
    position += 1
    return true
  }

  /// Steps over one value, and says of what kind it was. Nil if it is not JSON.
  mutating func skipValue(depth: Int = 0) -> Kind? {
    skipSpace()
    guard position < bytes.count else { return nil }
    guard depth < Self.maximumDepth else {
      isTooDeep = true
      return nil
    }
    switch bytes[position] {
    case 0x7B: return skipObject(depth: depth) ? .object : nil
    case 0x5B: return skipArray(depth: depth) ? .array : nil
    case 0x22: return skipString() ? .string : nil
    case 0x74: return skipWord("true") ? .boolean : nil
    case 0x66: return skipWord("false") ? .boolean : nil
    case 0x6E: return skipWord("null") ? .null : nil
    default: return skipNumber() ? .number : nil
    }
  }

  private mutating func skipObject(depth: Int) -> Bool {
    position += 1
    if take(0x7D) { return true }
    repeat {
      skipSpace()
      guard position < bytes.count, bytes[position] == 0x22, skipString(), take(0x3A),
        skipValue(depth: depth + 1) != nil
      else { return false }
    } while take(0x2C)
    return take(0x7D)
  }

  private mutating func skipArray(depth: Int) -> Bool {
    position += 1
    if take(0x5D) { return true }
    repeat {
      guard skipValue(depth: depth + 1) != nil else { return false }
    } while take(0x2C)
    return take(0x5D)
  }

  private mutating func skipWord(_ word: StaticString) -> Bool {
    let count = word.utf8CodeUnitCount
    guard bytes.count - position >= count else { return false }
    for offset in 0..<count {
      // SAFETY: `offset` is below the static string's own count.
      guard bytes[position + offset] == word.utf8Start[offset] else { return false }
    }
    position += count
    return true
  }

  private mutating func skipDigits() -> Bool {
    let start = position
    while position < bytes.count, (0x30...0x39).contains(bytes[position]) { position += 1 }
    return position > start
  }

  private mutating func skipNumber() -> Bool {
    if position < bytes.count, bytes[position] == 0x2D { position += 1 }
    guard position < bytes.count else { return false }
    if bytes[position] == 0x30 {
      position += 1
    } else if !skipDigits() {
      return false
    }
    if position < bytes.count, bytes[position] == 0x2E {
      position += 1
      guard skipDigits() else { return false }
    }
    if position < bytes.count, bytes[position] | 0x20 == 0x65 {
      position += 1
      if position < bytes.count, bytes[position] == 0x2B || bytes[position] == 0x2D { position += 1 }
      guard skipDigits() else { return false }
    }
    return true
  }

  /// The cursor stands on the opening quote. UTF-8 is checked too: what is not JSON must not be spliced.
  mutating func skipString() -> Bool {
    position += 1
    let start = position
    while position < bytes.count {
      switch bytes[position] {
      case 0x22:
        let text = LentBytes(rebasing: bytes[start..<position])
        position += 1
        return UTF8Rules.isValid(text)
      case 0x5C:
        position += 1
        guard position < bytes.count else { return false }
        switch bytes[position] {
        case 0x22, 0x5C, 0x2F, 0x62, 0x66, 0x6E, 0x72, 0x74: position += 1
        case 0x75:
          guard bytes.count - position > 4 else { return false }
          for offset in 1...4 {
            guard bytes[position + offset].isHexDigit else { return false }
          }
          position += 5
        default: return false
        }
      case 0..<0x20: return false
      default: position += 1
      }
    }
    return false
  }

  /// The text of a JSON string that `skipString` has accepted, quotes included in `quoted`. Lent from the
  /// source where nothing is escaped, else from `arena`. Nil for a lone surrogate.
  static func unescaped(_ quoted: LentBytes, into arena: inout ByteArena) -> LentBytes? {
    let inner = LentBytes(rebasing: quoted[1..<(quoted.count - 1)])
    guard inner.contains(0x5C) else { return inner }
    // SAFETY: an escape is never shorter than what it stands for, so `inner.count` bytes are enough.
    let target = arena.reserve(inner.count + 1).assumingMemoryBound(to: UInt8.self)
    var written = 0
    var index = 0
    while index < inner.count {
      let byte = inner[index]
      guard byte == 0x5C else {
        target[written] = byte
        written += 1
        index += 1
        continue
      }
      let escape = inner[index + 1]
      index += 2
      switch escape {
      case 0x62: target[written] = 0x08
      case 0x66: target[written] = 0x0C
      case 0x6E: target[written] = 0x0A
      case 0x72: target[written] = 0x0D
      case 0x74: target[written] = 0x09
      case 0x75:
        guard let scalar = scalar(in: inner, at: &index) else { return nil }
        for unit in UTF8.encode(scalar).unsafelyUnwrapped {
          target[written] = unit
          written += 1
        }
        continue
      default: target[written] = escape
      }
      written += 1
    }
    target[written] = 0
    arena.shrink(by: inner.count - written)
    return LentBytes(start: target, count: written)
  }

  private static func scalar(in text: LentBytes, at index: inout Int) -> Unicode.Scalar? {
    func unit(_ start: Int) -> UInt32 {
      text[start..<(start + 4)].reduce(0) { result, byte in
        result << 4 | UInt32(byte <= 0x39 ? byte - 0x30 : (byte | 0x20) - 0x57)
      }
    }
    let first = unit(index)
    index += 4
    guard (0xD800...0xDBFF).contains(first) else { return Unicode.Scalar(first) }
    guard text.count - index >= 6, text[index] == 0x5C, text[index + 1] == 0x75 else { return nil }
    let second = unit(index + 2)
    guard (0xDC00...0xDFFF).contains(second) else { return nil }
    index += 6
    return Unicode.Scalar(0x10000 + (first - 0xD800) << 10 + (second - 0xDC00))
  }
}
