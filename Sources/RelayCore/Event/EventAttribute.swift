// Owns: the attributes that outboxd gives an event, and the name of each in a header and in JSON.
// Must not know: values.

/// An attribute of an event. `contentType` is that of its data.
public enum EventAttribute: CaseIterable, Sendable {
  case id, source, type, subject, time, sequence, contentType, dataschema, partitionkey

  /// The name of its header in a binary event.
  @inline(__always)
  var header: StaticString {
    switch self {
    case .id: "ce_id"
    case .source: "ce_source"
    case .type: "ce_type"
    case .subject: "ce_subject"
    case .time: "ce_time"
    case .sequence: "ce_sequence"
    case .contentType: "content-type"
    case .dataschema: "ce_dataschema"
    case .partitionkey: "ce_partitionkey"
    }
  }

  /// The name of its member in a structured event as it stands in JSON, comma and colon included.
  @inline(__always)
  var member: StaticString {
    switch self {
    case .id: #","id":"#
    case .source: #","source":"#
    case .type: #","type":"#
    case .subject: #","subject":"#
    case .time: #","time":"#
    case .sequence: #","sequence":"#
    case .contentType: #","datacontenttype":"#
    case .dataschema: #","dataschema":"#
    case .partitionkey: #","partitionkey":"#
    }
  }

  /// Its name in CloudEvents.
  var name: LentBytes {
    let member = ValueText.staticText(member)
    return LentBytes(rebasing: member[2..<(member.count - 2)])
  }
}
