// Owns: reading back the attributes of an event that is already a record, in either content mode.
// Must not know: rows, mappings.

/// What a count of events asks for. Of a structured event the texts are as its JSON spells them.
public struct RecordAttributes: Equatable, Sendable {
  public var source: String?
  public var type: String?
  public var time: String?
  public var sequence: String?

  public init(of record: Record) {
    var isBinary = false
    for header in record.headers where header.name.starts(with: ValueText.staticText("ce_")) {
      isBinary = true
      note(LentBytes(rebasing: header.name.dropFirst(3)), header.value)
    }
    if !isBinary, let value = record.value { readEnvelope(value) }
  }

  private mutating func note(_ name: LentBytes, _ value: LentBytes) {
    if name.elementsEqual(ValueText.staticText("type")) {
      type = String(decoding: value, as: UTF8.self)
    } else if name.elementsEqual(ValueText.staticText("source")) {
      source = String(decoding: value, as: UTF8.self)
    } else if name.elementsEqual(ValueText.staticText("time")) {
      time = String(decoding: value, as: UTF8.self)
    } else if name.elementsEqual(ValueText.staticText("sequence")) {
      sequence = String(decoding: value, as: UTF8.self)
    }
  }

  /// The context attributes stand before the data, which is not looked at.
  private mutating func readEnvelope(_ value: LentBytes) {
    var scanner = JSONScanner(value)
    guard scanner.take(0x7B) else { return }
    repeat {
      scanner.skipSpace()
      let nameStart = scanner.position
      guard scanner.skipString() else { return }
      let name = unquoted(scanner.slice(from: nameStart))
      guard scanner.take(0x3A), !name.starts(with: ValueText.staticText("data")) else { return }
      scanner.skipSpace()
      let valueStart = scanner.position
      guard let kind = scanner.skipValue() else { return }
      if kind == .string { note(name, unquoted(scanner.slice(from: valueStart))) }
    } while scanner.take(0x2C)
  }

  private func unquoted(_ text: LentBytes) -> LentBytes {
    LentBytes(rebasing: text.dropFirst().dropLast())
  }
}
