// Owns: the headers column of a row: which of its keys become extension attributes, and which plain headers.
// Must not know: the other attributes of an event, beyond their names.

extension EventEncoder {
  /// Keys that are valid extension names become extension attributes; any other key becomes a plain Kafka
  /// header of that name. NULL and empty values are left out.
  mutating func addHeaders(_ row: RowView, _ plan: RowPlan) throws(RowFault) {
    guard let column = plan.headers else { return }
    let value = row.values[column.index]
    if value.format == .null { return }
    let text = try ValueText.text(of: value, form: column.form, part: "headers", arena: &arena)
    var scanner = JSONScanner(text)
    guard scanner.take(0x7B) else { throw RowFault("headers", "it is not a JSON object") }
    let firstOfColumn = headerCount
    if !scanner.take(0x7D) {
      repeat {
        scanner.skipSpace()
        let keyStart = scanner.position
        guard scanner.position < text.count, text[scanner.position] == 0x22, scanner.skipString(),
          let key = JSONScanner.unescaped(scanner.slice(from: keyStart), into: &arena), scanner.take(0x3A)
        else { throw RowFault("headers", "it is not valid JSON") }
        scanner.skipSpace()
        let start = scanner.position
        guard let kind = scanner.skipValue() else { throw RowFault("headers", "it is not valid JSON") }
        var bytes = scanner.slice(from: start)
        if kind == .null { continue }
        if kind == .string {
          guard let unescaped = JSONScanner.unescaped(bytes, into: &arena) else {
            throw RowFault("headers", "the value of \(quoted(key)) holds a lone surrogate")
          }
          bytes = unescaped
        }
        if bytes.isEmpty { continue }
        try addHeader(key, bytes, kind, plan, firstOfColumn: firstOfColumn)
      } while scanner.take(0x2C)
      guard scanner.take(0x7D) else { throw RowFault("headers", "it is not valid JSON") }
    }
    scanner.skipSpace()
    guard scanner.isAtEnd else { throw RowFault("headers", "it is not valid JSON") }
  }

  private mutating func addHeader(
    _ key: LentBytes, _ value: LentBytes, _ kind: JSONScanner.Kind, _ plan: RowPlan, firstOfColumn: Int
  ) throws(RowFault) {
    guard !key.isEmpty, !key.contains(0) else { throw RowFault("headers", "a key is empty or holds a NUL") }
    if CloudEventRules.hasPrefix(key, "ce_") || CloudEventRules.hasPrefix(key, "content-type") {
      throw RowFault("headers", "the key \(quoted(key)) would forge an attribute of the event")
    }
    guard isFreeExtensionName(key, plan) else {
      try refuseRepeated(key, prefixed: false, from: firstOfColumn)
      try add(name: key, value: value)
      return
    }
    guard CloudEventRules.isString(value) else {
      throw RowFault("headers", "the value of \(quoted(key)): \(notAString)")
    }
    if plan.isStructured {
      try refuseRepeatedMember(key)
      writer.raw(",")
      writer.string(key)
      writer.raw(":")
      if kind == .boolean || (kind == .number && isInteger32(value)) {
        writer.raw(value)
      } else {
        writer.string(value)
      }
      return
    }
    try refuseRepeated(key, prefixed: true, from: firstOfColumn)
    // SAFETY: three bytes for the prefix, and the key's own.
    let name = arena.reserve(key.count + 3)
    name.copyMemory(from: ValueText.staticText("ce_").baseAddress.unsafelyUnwrapped, byteCount: 3)
    if let start = key.baseAddress { (name + 3).copyMemory(from: start, byteCount: key.count) }
    try add(name: LentBytes(start: name, count: key.count + 3), value: value)
  }

  /// True for a name that an extension may have and that nothing of the mapping has taken.
  private func isFreeExtensionName(_ key: LentBytes, _ plan: RowPlan) -> Bool {
    for byte in key where !CloudEventRules.isNameByte(byte) { return false }
    for name in Self.taken where equal(key, ValueText.staticText(name)) { return false }
    for item in plan.extensions where equal(key, item.name) { return false }
    return true
  }

  private static let taken: [StaticString] = [
    "id", "source", "specversion", "type", "datacontenttype", "dataschema", "subject", "time", "data",
    "sequence", "partitionkey",
  ]

  private func equal(_ left: LentBytes, _ right: LentBytes) -> Bool {
    left.count == right.count && left.elementsEqual(right)
  }

  /// A JSON object may hold a key twice; an event must not.
  private func refuseRepeated(_ key: LentBytes, prefixed: Bool, from start: Int) throws(RowFault) {
    let skip = prefixed ? 3 : 0
    for index in start..<headerCount {
      let name = headers[index].name
      if name.count == key.count + skip, name.dropFirst(skip).elementsEqual(key) {
        throw RowFault("headers", "the key \(quoted(key)) stands there twice")
      }
    }
  }

  /// As `refuseRepeated`, in what is already written of the envelope.
  private func refuseRepeatedMember(_ key: LentBytes) throws(RowFault) {
    // Extension names need no escape, so a member reads `,"name":`. Nothing within a string can read so,
    // because a quote in a string is escaped.
    let written = writer.bytes
    guard written.count > key.count + 4 else { return }
    var index = 0
    while index + key.count + 4 <= written.count {
      if written[index] == 0x2C, written[index + 1] == 0x22,
        LentBytes(rebasing: written[(index + 2)..<(index + 2 + key.count)]).elementsEqual(key),
        written[index + 2 + key.count] == 0x22, written[index + 3 + key.count] == 0x3A
      {
        throw RowFault("headers", "the key \(quoted(key)) stands there twice")
      }
      index += 1
    }
  }

  private func isInteger32(_ text: LentBytes) -> Bool {
    guard text.count <= 11, let number = Int32(String(decoding: text, as: UTF8.self)) else { return false }
    return String(number).utf8.elementsEqual(text)
  }
}
