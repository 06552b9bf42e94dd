// Owns: in which of CloudEvents' forms for Kafka an event is a message, and how a message tells its form.
// Must not know: rows, mappings beyond their content mode.

/// The form of an event in a message: the content modes of CloudEvents' Kafka binding, 1.0.2. It writes an event, and
/// reads attributes back from a message.
public enum EventShape: BitwiseCopyable, Sendable {
  /// Attributes are headers, the value is the data.
  case binary
  /// The value is a JSON object that holds attributes and data.
  case structured

  init(_ mode: OutboxMapping.ContentMode) {
    switch mode {
    case .binary: self = .binary
    case .structured: self = .structured
    }
  }

  /// The shape of a message: by its media type, as the binding says (section 3).
  public init(of record: Record) {
    let contentType = Self.header(.contentType, of: record)
    self =
      contentType.map { CloudEventRules.hasPrefix($0, "application/cloudevents") } == true
      ? .structured : .binary
  }

  static func header(_ attribute: EventAttribute, of record: Record) -> LentBytes? {
    let name = ValueText.staticText(attribute.header)
    return record.headers.first { $0.name.elementsEqual(name) }?.value
  }
}
