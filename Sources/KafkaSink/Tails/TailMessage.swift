// Owns: what a consumed message, or a record to be sent, is compared by.
// Must not know: topics, offsets, where it is read.
import CRdkafka
import Glibc
import RelayCore

/// Hashes of messages. Two are equal where key, value and headers are, in this order, null told from empty.
enum TailMessage {
  private static let replayMark = Array("outboxd-replay".utf8)
  static let sourceHeader = Array("ce_source".utf8)
  private static let sequenceHeader = Array("ce_sequence".utf8)
  private static let contentType = Array("content-type".utf8)
  private static let structuredType = Array("application/cloudevents+json".utf8)

  static func content(of record: Record) -> Int {
    var hasher = Hasher()
    add(record.key, to: &hasher)
    add(record.value, to: &hasher)
    for header in record.headers {
      add(header.name, to: &hasher)
      add(header.value, to: &hasher)
    }
    return hasher.finalize()
  }

  static func key(_ key: LentBytes?) -> Int? {
    guard let key else { return nil }
    var hasher = Hasher()
    hasher.combine(bytes: key)
    return hasher.finalize()
  }

  private static func add(_ bytes: LentBytes?, to hasher: inout Hasher) {
    hasher.combine(bytes?.count ?? -1)
    if let bytes { hasher.combine(bytes: bytes) }
  }

  /// The source of an event, in either mode.
  static func source(_ message: UnsafePointer<rd_kafka_message_t>) -> LentBytes? {
    // SAFETY: value and headers live as long as the message, which outlives what is made of them by the caller.
    var list: OpaquePointer?
    var bytes: UnsafeRawPointer?
    var size = 0
    if rd_kafka_message_headers(UnsafeMutablePointer(mutating: message), &list) == RD_KAFKA_RESP_ERR_NO_ERROR,
      let list,
      rd_kafka_header_get_last(list, "ce_source", &bytes, &size) == RD_KAFKA_RESP_ERR_NO_ERROR, let bytes
    {
      return LentBytes(start: bytes, count: size)
    }
    guard let value = message.pointee.payload else { return nil }
    return StructuredEvent.text("source", in: LentBytes(start: value, count: message.pointee.len))
  }

  /// What a consumed message is, as an event. Nil for a message without a sequence, and for a replayed one.
  static func read(
    _ message: UnsafePointer<rd_kafka_message_t>
  ) -> (event: TailEvent, key: Int?)? {
    // SAFETY: key, value and headers live as long as the message, which outlives this call.
    let key = message.pointee.key.map { LentBytes(start: $0, count: message.pointee.key_len) }
    let value = message.pointee.payload.map { LentBytes(start: $0, count: message.pointee.len) }
    var list: OpaquePointer?
    guard
      rd_kafka_message_headers(UnsafeMutablePointer(mutating: message), &list) == RD_KAFKA_RESP_ERR_NO_ERROR,
      let list
    else { return nil }
    var hasher = Hasher()
    add(key, to: &hasher)
    add(value, to: &hasher)
    var sequence: EventSequence?
    var count = 0
    var start: UnsafePointer<CChar>?
    var bytes: UnsafeRawPointer?
    var size = 0
    while rd_kafka_header_get_all(list, count, &start, &bytes, &size) == RD_KAFKA_RESP_ERR_NO_ERROR {
      count += 1
      guard let start else { return nil }
      // SAFETY: name is NUL-terminated, value has `size` bytes; both live while the message does.
      let name = LentBytes(start: start, count: strlen(start))
      let text = bytes.map { LentBytes(start: $0, count: size) }
      if name.elementsEqual(replayMark) { return nil }
      if let text, sequence == nil {
        if name.elementsEqual(sequenceHeader) {
          sequence = EventSequence(text)
        } else if let value, name.elementsEqual(contentType), text.starts(with: structuredType) {
          sequence = EventSequence(structured: value)
        }
      }
      add(name, to: &hasher)
      add(text, to: &hasher)
    }
    guard let sequence else { return nil }
    return (TailEvent(sequence, content: hasher.finalize()), Self.key(key))
  }
}
