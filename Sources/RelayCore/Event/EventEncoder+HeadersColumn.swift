// Owns: the headers column of a row: which of its members become extension attributes, which plain headers, and which
// are left out.
// Must not know: the other attributes of an event, beyond their names.

extension EventEncoder {
  /// The rules stand in the README, section "The headers column". None of them stops the event: CloudEvents allows it
  /// without what is left out.
  mutating func addHeaders(_ row: RowView, _ plan: RowPlan) throws(RowFault) {
    guard let column = plan.headers else { return }
    let value = row.values[column.index]
    if value.format == .null { return }
    let text = try ValueText.text(of: value, column, part: "headers", arena: &arena)
    columnHeaders.reset()
    var scanner = JSONScanner(text)
    guard readHeaders(&scanner, text, plan) else {
      return omitted(scanner.isTooDeep ? .deepHeaders : .headers, plan)
    }
    for index in 0..<columnHeaders.count {
      let member = columnHeaders[index]
      if !member.value.isEmpty { try addHeader(member, plan) }
    }
  }

  /// Into `columnHeaders`. False where the text is no JSON object; JSON null and an empty array, which writers without a
  /// type for maps write for an empty one, are as good as an empty object.
  private mutating func readHeaders(
    _ scanner: inout JSONScanner, _ text: LentBytes, _ plan: RowPlan
  ) -> Bool {
    guard scanner.take(0x7B) else { return Self.isNothing(text) }
    if !scanner.take(0x7D) {
      repeat {
        guard readMember(&scanner, plan) else { return false }
      } while scanner.take(0x2C)
      guard scanner.take(0x7D) else { return false }
    }
    scanner.skipSpace()
    return scanner.isAtEnd
  }

  private static func isNothing(_ text: LentBytes) -> Bool {
    var scanner = JSONScanner(text)
    let kind = scanner.skipValue()
    scanner.skipSpace()
    guard scanner.isAtEnd else { return false }
    if kind == .null { return true }
    var array = JSONScanner(text)
    return kind == .array && array.take(0x5B) && array.take(0x5D)
  }

  private mutating func readMember(_ scanner: inout JSONScanner, _ plan: RowPlan) -> Bool {
    scanner.skipSpace()
    let nameStart = scanner.position
    guard scanner.isAtQuote, scanner.skipString() else { return false }
    let quotedName = scanner.slice(from: nameStart)
    guard scanner.take(0x3A) else { return false }
    scanner.skipSpace()
    let valueStart = scanner.position
    guard let kind = scanner.skipValue() else { return false }
    let value = scanner.slice(from: valueStart)
    guard let name = JSONScanner.unescaped(quotedName, into: &arena) else {
      omitted(.unreadableHeader, plan)
      return true
    }
    if let omission = Self.omission(ofName: name) {
      omitted(omission, plan, name)
      return true
    }
    var member = ColumnHeaders.Member(name: name, value: value, kind: kind)
    switch kind {
    case .null: member.value = LentBytes(start: nil, count: 0)
    case .string:
      guard let text = JSONScanner.unescaped(value, into: &arena) else {
        omitted(.unreadableHeader, plan, name)
        return true
      }
      member.value = text
    default: break
    }
    if !columnHeaders.set(member) { omitted(.surplusHeader, plan, name) }
    return true
  }

  /// Names that would forge an attribute of the event or a mark of outboxd, and names that cannot be told in a log or a
  /// terminal. Kafka allows the latter; a C client would read less than is there.
  private static func omission(ofName name: LentBytes) -> Omission? {
    if name.isEmpty || name.contains(where: { $0 < 0x20 || $0 == 0x7F }) { return .unnamedHeader }
    if CloudEventRules.hasPrefix(name, "ce_") || CloudEventRules.hasPrefix(name, "outboxd-")
      || (name.count == 12 && CloudEventRules.hasPrefix(name, "content-type"))
    {
      return .reservedHeader
    }
    return nil
  }

  private mutating func addHeader(
    _ member: ColumnHeaders.Member, _ plan: RowPlan
  ) throws(RowFault) {
    let (key, value) = (member.name, member.value)
    guard isFreeExtensionName(key, plan) else { return try message.add(name: key, value: value) }
    guard CloudEventRules.isString(value) else {
      omitted(.attribute, plan, key)
      return try message.add(name: key, value: value)
    }
    try plan.shape.put(
      extension: plan.shape.name(ofExtension: key, &arena), value,
      isLiteral: member.kind == .boolean || (member.kind == .number && isInteger32(value)), &message)
  }

  /// True for a name that an extension may have and that nothing of the mapping has taken.
  private func isFreeExtensionName(_ key: LentBytes, _ plan: RowPlan) -> Bool {
    for byte in key where !CloudEventRules.isNameByte(byte) { return false }
    for name in Self.taken where equal(key, ValueText.staticText(name)) { return false }
    for item in plan.extensions where equal(key, item.name) { return false }
    return true
  }

  private static let taken = CloudEventRules.reservedNames + ["partitionkey"]

  private func equal(_ left: LentBytes, _ right: LentBytes) -> Bool {
    left.count == right.count && left.elementsEqual(right)
  }

  private func isInteger32(_ text: LentBytes) -> Bool {
    guard text.count <= 11, let number = Int32(String(decoding: text, as: UTF8.self)) else { return false }
    return String(number).utf8.elementsEqual(text)
  }
}
