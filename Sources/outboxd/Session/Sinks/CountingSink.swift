// Owns: what a dry run counts: records by topic, and events by source and type, with their span.
// Must not know: where records come from.
import RelayCore

/// Takes every record and sends none. Confined to the relay's thread.
final class CountingSink: RecordSink {
  private(set) var counts = EventCounts()
  private var settled: SettledTags

  /// - Throws: `failed` where the system gives no descriptor.
  init() throws(RelayError) { settled = try SettledTags() }

  var descriptor: Int32 { settled.descriptor }

  func send(_ record: Record, tag: UInt64) -> SendOutcome {
    counts.add(record)
    settled.add(tag)
    return .accepted
  }

  func drain(_ settle: (Delivery) -> Void) { settled.drain(settle) }

  func abandon() { settled.forget() }
}
