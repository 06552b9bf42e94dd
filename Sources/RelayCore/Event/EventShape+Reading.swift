// Owns: reading an attribute back from a message that an EventShape has written.
// Must not know: where messages are read from, what an attribute means.

extension EventShape {
  /// An attribute of the event that is a message, lent from it: of a structured one as its JSON spells it, between the
  /// quotes. Nil where there is none, or it is no string.
  public static func bytes(of attribute: EventAttribute, in record: Record) -> LentBytes? {
    switch EventShape(of: record) {
    case .binary: header(attribute, of: record)
    case .structured: record.value.flatMap { member(attribute.name, of: $0) }
    }
  }

  /// The same as text.
  public static func text(of attribute: EventAttribute, in record: Record) -> String? {
    bytes(of: attribute, in: record).map { String(decoding: $0, as: UTF8.self) }
  }

  private static func member(_ name: LentBytes, of value: LentBytes) -> LentBytes? {
    var scanner = JSONScanner(value)
    guard scanner.take(0x7B) else { return nil }
    repeat {
      scanner.skipSpace()
      let start = scanner.position
      guard scanner.isAtQuote, scanner.skipString() else { return nil }
      let isWanted = unquoted(scanner.slice(from: start)).elementsEqual(name)
      guard scanner.take(0x3A) else { return nil }
      scanner.skipSpace()
      let valueStart = scanner.position
      guard let kind = scanner.skipValue() else { return nil }
      if isWanted { return kind == .string ? unquoted(scanner.slice(from: valueStart)) : nil }
    } while scanner.take(0x2C)
    return nil
  }

  private static func unquoted(_ text: LentBytes) -> LentBytes {
    LentBytes(rebasing: text[1..<(text.count - 1)])
  }
}
