// Owns: finding the id again in a record.
// Must not know: rows.

/// The id of an event that is already a record, for a message about it.
enum RecordIdentity {
  /// The value of `ce_id`, or the `id` of a structured event as this module writes it.
  static func id(of record: Record) -> String {
    for header in record.headers where header.name.elementsEqual(ValueText.staticText("ce_id")) {
      return String(decoding: header.value, as: UTF8.self)
    }
    guard let value = record.value else { return "unknown" }
    let prefix = ValueText.staticText(#"{"specversion":"1.0","id":"#)
    guard value.count > prefix.count, value.prefix(prefix.count).elementsEqual(prefix) else {
      return "unknown"
    }
    var scanner = JSONScanner(LentBytes(rebasing: value[prefix.count...]))
    guard scanner.skipString() else { return "unknown" }
    let quoted = scanner.slice(from: 0)
    return String(decoding: quoted.dropFirst().dropLast(), as: UTF8.self)
  }
}
