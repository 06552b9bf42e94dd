// Owns: what of an event the demo shows.
// Must not know: how it is shown.
import KafkaSink
import RelayCore

/// The attributes that a line shows.
struct DemoEvent {
  let id: String
  let type: String

  init(_ record: ConsumedRecord) {
    (id, type) = record.withRecord { record in
      (EventShape.text(of: .id, in: record) ?? "", EventShape.text(of: .type, in: record) ?? "")
    }
  }
}
