// Owns: reading one attribute back from a CloudEvent in structured mode.
// Must not know: where messages are read from, what the attribute means.

public enum StructuredEvent {
  /// The text of a member, as it stands between the quotes. Nil where there is none, or it is no string.
  public static func text(_ member: String, in value: LentBytes) -> LentBytes? {
    var scanner = JSONScanner(value)
    guard scanner.take(0x7B) else { return nil }
    repeat {
      scanner.skipSpace()
      let name = scanner.position
      guard name < value.count, value[name] == 0x22, scanner.skipString() else { return nil }
      let isWanted = scanner.slice(from: name).dropFirst().dropLast().elementsEqual(member.utf8)
      guard scanner.take(0x3A) else { return nil }
      scanner.skipSpace()
      let start = scanner.position
      guard let kind = scanner.skipValue() else { return nil }
      if isWanted {
        return kind == .string ? LentBytes(rebasing: scanner.slice(from: start).dropFirst().dropLast()) : nil
      }
    } while scanner.take(0x2C)
    return nil
  }
}
