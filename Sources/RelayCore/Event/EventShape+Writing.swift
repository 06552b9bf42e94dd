// Owns: where each part of an event stands in a message, in every shape.
// Must not know: rows, and what the parts are made of.

extension EventShape {
  /// A value that is the same for every row, and its member as it stands in JSON.
  struct Constant: BitwiseCopyable {
    let value: LentBytes
    let member: LentBytes

    init(_ attribute: EventAttribute, _ value: LentBytes, _ literals: Literals) {
      var json = JSONWriter()
      json.member(attribute.member, value)
      self.value = value
      member = literals.lend(json.bytes)
    }
  }

  /// What comes before all attributes: of a binary event the media type of its data, of a structured one its own.
  @inline(__always)
  func begin(_ contentType: LentBytes, hasData: Bool, _ message: inout EventMessage) {
    message.reset()
    switch self {
    case .binary:
      if hasData { message.add(EventAttribute.contentType.header, contentType) }
      message.add("ce_specversion", ValueText.staticText("1.0"))
    case .structured:
      message.add(
        EventAttribute.contentType.header,
        ValueText.staticText("application/cloudevents+json; charset=UTF-8"))
      message.json.reset()
      message.json.raw(#"{"specversion":"1.0""#)
    }
  }

  /// - Parameter isPlain: the value cannot hold a byte that needs an escape.
  @inline(__always)
  func put(
    _ attribute: EventAttribute, _ value: LentBytes, isPlain: Bool = false, _ message: inout EventMessage
  ) {
    switch self {
    case .binary: message.add(attribute.header, value)
    case .structured:
      message.json.raw(attribute.member)
      if isPlain { message.json.plainString(value) } else { message.json.string(value) }
    }
  }

  @inline(__always)
  func put(_ attribute: EventAttribute, _ constant: Constant, _ message: inout EventMessage) {
    switch self {
    case .binary: message.add(attribute.header, constant.value)
    case .structured: message.json.raw(constant.member)
    }
  }

  /// The media type of a structured event's data, which follows the attributes that every event has.
  @inline(__always)
  func putContentType(_ ofRow: LentBytes?, _ usual: Constant, _ message: inout EventMessage) {
    guard self == .structured else { return }
    if let ofRow { put(.contentType, ofRow, &message) } else { put(.contentType, usual, &message) }
  }

  /// The name of an extension as `put(extension:)` takes it.
  func name(ofExtension name: LentBytes, _ arena: inout ByteArena) -> LentBytes {
    guard self == .binary else { return name }
    // SAFETY: three bytes for the prefix, the name's own, and a NUL byte.
    let target = arena.reserve(name.count + 4)
    target.copyMemory(from: ValueText.staticText("ce_").baseAddress.unsafelyUnwrapped, byteCount: 3)
    if let start = name.baseAddress { (target + 3).copyMemory(from: start, byteCount: name.count) }
    target.storeBytes(of: 0, toByteOffset: name.count + 3, as: UInt8.self)
    return LentBytes(start: target, count: name.count + 3)
  }

  /// - Parameters:
  ///   - name: what `name(ofExtension:)` makes of it.
  ///   - isLiteral: the value is a JSON number or truth value, and stays one.
  /// - Throws: where a message has no room for another header.
  func put(
    extension name: LentBytes, _ value: LentBytes, isLiteral: Bool, _ message: inout EventMessage
  ) throws(RowFault) {
    guard self == .structured else { return try message.add(name: name, value: value) }
    message.json.raw(",")
    message.json.string(name)
    message.json.raw(":")
    if isLiteral { message.json.raw(value) } else { message.json.string(value) }
  }

  /// Ends the event.
  /// - Parameters:
  ///   - data: nil where it has none.
  ///   - isJSON: whether its media type is one of JSON.
  /// - Returns: the value of the message; nil is a null value.
  /// - Throws: where the data is not what its media type says.
  @inline(__always)
  func end(
    _ data: LentBytes?, _ form: ColumnType.Form, isJSON: @autoclosure () -> Bool,
    _ message: inout EventMessage
  ) throws(RowFault) -> LentBytes? {
    guard self == .structured else { return data }
    if let data { try put(data, form, isJSON: isJSON(), &message) }
    message.json.raw("}")
    return message.json.bytes
  }

  /// CloudEvents JSON format 1.0.2, section 3.1.1: bytes as base64, JSON as itself, other text as a string.
  private func put(
    _ data: LentBytes, _ form: ColumnType.Form, isJSON: Bool, _ message: inout EventMessage
  ) throws(RowFault) {
    if form == .bytea {
      message.json.raw(#","data_base64":"#)
      return message.json.base64(data)
    }
    message.json.raw(#","data":"#)
    if isJSON {
      // The server has seen to the others.
      if form != .json, form != .jsonb { try requireJSON(data) }
      message.json.raw(data)
    } else {
      guard UTF8Rules.isValid(data) else { throw RowFault("payload", "the text is not valid UTF-8") }
      message.json.string(data)
    }
  }

  private func requireJSON(_ data: LentBytes) throws(RowFault) {
    var scanner = JSONScanner(data)
    guard !scanner.skipDocument() else { return }
    throw RowFault(
      "payload",
      scanner.isTooDeep
        ? "it is declared to be JSON and is nested deeper than \(JSONScanner.maximumDepth) levels, which is the "
          + "limit for a payload that is not of type json or jsonb"
        : "it is declared to be JSON and is not valid JSON")
  }
}
