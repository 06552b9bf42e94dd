// Owns: what CloudEvents 1.0.2, RFC 3986, RFC 2046 and Kafka allow in a value.
// Must not know: rows.

public enum CloudEventRules {
  /// The names that no extension may have (CloudEvents 1.0.2, "Naming Conventions"), and `sequence`, which outboxd writes.
  static let reservedNames: [StaticString] = [
    "id", "source", "specversion", "type", "datacontenttype", "dataschema", "subject", "time", "data",
    "sequence",
  ]
  public static let reservedAttributes = Set(reservedNames.map(\.description))

  static func isNameByte(_ byte: UInt8) -> Bool {
    (0x61...0x7A).contains(byte) || (0x30...0x39).contains(byte)
  }

  /// CloudEvents 1.0.2, "Type System", String: UTF-8 without control characters and noncharacters.
  static func isString(_ bytes: LentBytes) -> Bool {
    // Of most texts nearly all is printable ASCII.
    var index = bytes.prefixOfWords { ByteWord.unprintable($0) == 0 }
    while index < bytes.count {
      let byte = bytes[index]
      if byte >= 0x20 && byte < 0x7F {
        index += 1
        continue
      }
      guard byte >= 0x80, let (value, length) = UTF8Rules.scalar(bytes, at: index) else { return false }
      if value < 0xA0 || (0xFDD0...0xFDEF).contains(value) || value & 0xFFFE == 0xFFFE { return false }
      index += length
    }
    return true
  }

  /// RFC 3986, section 4.1, as far as characters and escapes go; not empty.
  static func isURIReference(_ bytes: LentBytes) -> Bool {
    guard !bytes.isEmpty else { return false }
    var index = 0
    while index < bytes.count {
      switch bytes[index] {
      case 0x25:
        guard bytes.count - index > 2, bytes[index + 1].isHexDigit, bytes[index + 2].isHexDigit else {
          return false
        }
        index += 3
      case let byte where PercentEncoding.isReference(byte): index += 1
      default: return false
      }
    }
    return true
  }

  /// A URI with a scheme (RFC 3986, section 3.1).
  static func isURI(_ bytes: LentBytes) -> Bool {
    guard isURIReference(bytes), let colon = bytes.firstIndex(of: 0x3A), colon > 0 else { return false }
    return bytes[..<colon].enumerated().allSatisfy { index, byte in
      let isLetter = (0x61...0x7A).contains(byte | 0x20)
      return index == 0
        ? isLetter : isLetter || (0x30...0x39).contains(byte) || [0x2B, 0x2D, 0x2E].contains(byte)
    }
  }

  /// RFC 2046 as far as it matters: `type/subtype`, then anything printable. Not a CloudEvents type, which
  /// would make a receiver read a binary message as a structured one.
  static func isMediaType(_ bytes: LentBytes) -> Bool {
    let end = bytes.firstIndex(of: 0x3B) ?? bytes.count
    let type = bytes[..<end]
    guard let slash = type.firstIndex(of: 0x2F), slash > 0, slash < end - 1,
      bytes.allSatisfy({ $0 >= 0x20 && $0 < 0x7F }),
      type[(slash + 1)...].allSatisfy({ $0 != 0x2F })
    else { return false }
    return !hasPrefix(bytes, "application/cloudevents")
  }

  /// True where data of this media type is a JSON value: `*/json` and `*/*+json`, or none at all.
  static func isJSON(_ mediaType: LentBytes) -> Bool {
    var end = mediaType.firstIndex(of: 0x3B) ?? mediaType.count
    while end > 0, mediaType[end - 1] == 0x20 { end -= 1 }
    let type = LentBytes(rebasing: mediaType[..<end])
    return hasSuffix(type, "/json") || hasSuffix(type, "+json")
  }

  /// Bytes that a topic's name has at most.
  public static let topicLimit = 249

  /// Kafka: 1 to 249 of `[A-Za-z0-9._-]`, and neither `.` nor `..`.
  static func isTopic(_ bytes: LentBytes) -> Bool {
    guard (1...topicLimit).contains(bytes.count) else { return false }
    for byte in bytes {
      switch byte {
      case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x2E, 0x5F: continue
      default: return false
      }
    }
    return !(bytes[0] == 0x2E && (bytes.count == 1 || (bytes.count == 2 && bytes[1] == 0x2E)))
  }

  /// The same checks for texts of the configuration.
  public static func isURIReference(_ text: String) -> Bool { check(text, isURIReference) }
  public static func isMediaType(_ text: String) -> Bool { check(text, isMediaType) }
  public static func isTopic(_ text: String) -> Bool { check(text, isTopic) }

  private static func check(_ text: String, _ rule: (LentBytes) -> Bool) -> Bool {
    Array(text.utf8).withUnsafeBytes(rule)
  }

  /// Compares without regard to case; `prefix` is lower-case ASCII.
  static func hasPrefix(_ bytes: LentBytes, _ prefix: StaticString) -> Bool {
    let count = prefix.utf8CodeUnitCount
    guard bytes.count >= count else { return false }
    return matches(bytes, at: 0, prefix)
  }

  static func hasSuffix(_ bytes: LentBytes, _ suffix: StaticString) -> Bool {
    let count = suffix.utf8CodeUnitCount
    guard bytes.count >= count else { return false }
    return matches(bytes, at: bytes.count - count, suffix)
  }

  private static func matches(_ bytes: LentBytes, at start: Int, _ text: StaticString) -> Bool {
    for offset in 0..<text.utf8CodeUnitCount {
      let byte = bytes[start + offset]
      let lowered = (0x41...0x5A).contains(byte) ? byte | 0x20 : byte
      // SAFETY: `offset` is below the static string's own count.
      if lowered != text.utf8Start[offset] { return false }
    }
    return true
  }
}
