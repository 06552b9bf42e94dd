// Owns: what of an event the demo shows.
// Must not know: how it is printed.
import KafkaSink

/// The attributes that a line shows, from headers or from the envelope.
struct DemoEvent {
  let id: String
  let type: String

  init(_ record: ConsumedRecord) {
    if let id = record.header("ce_id") {
      self.id = id
      type = record.header("ce_type") ?? ""
    } else {
      let envelope = String(decoding: record.value ?? [], as: UTF8.self)
      id = Self.attribute("id", in: envelope)
      type = Self.attribute("type", in: envelope)
    }
  }

  /// Context attributes stand before the data in the envelope, and the demo's hold no escapes.
  private static func attribute(_ name: String, in envelope: String) -> String {
    guard let mark = envelope.firstRange(of: "\"\(name)\":\"") else { return "" }
    return String(envelope[mark.upperBound...].prefix { $0 != "\"" })
  }
}
