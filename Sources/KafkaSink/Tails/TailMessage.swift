// Owns: what a consumed message, or a record to be sent, is compared by.
// Must not know: topics, offsets, where it is read.
import CRdkafka
import Glibc
import RelayCore

/// Hashes of messages. Two are equal where key, value and headers are, in this order, null told from empty.
enum TailMessage {
  private static let replayMark = Array("outboxd-replay".utf8)

  static func content(of record: Record) -> Int {
    var hasher = Hasher()
    add(record.key, to: &hasher)
    add(record.value, to: &hasher)
    for header in record.headers {
      add(header.name, to: &hasher)
      add(header.value.baseAddress == nil ? nil : header.value, to: &hasher)
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

  /// What a consumed message is, as an event. Nil for a message without a sequence, and for a replayed one.
  static func read(_ record: Record) -> (event: TailEvent, key: Int?)? {
    guard let sequence = EventSequence(of: record),
      !record.headers.contains(where: { $0.name.elementsEqual(replayMark) })
    else { return nil }
    return (TailEvent(sequence, content: content(of: record)), key(record.key))
  }

  /// A consumed message as the record that it was; lent from the message for the duration of `body`. Its topic is
  /// empty. Not called for a message without headers.
  static func withRecord(_ message: UnsafePointer<rd_kafka_message_t>, _ body: (Record) -> Void) {
    var list: OpaquePointer?
    guard
      rd_kafka_message_headers(UnsafeMutablePointer(mutating: message), &list) == RD_KAFKA_RESP_ERR_NO_ERROR,
      let list
    else { return }
    withUnsafeTemporaryAllocation(of: RecordHeader.self, capacity: rd_kafka_header_cnt(list)) { headers in
      var count = 0
      var name: UnsafePointer<CChar>?
      var bytes: UnsafeRawPointer?
      var size = 0
      while count < headers.count,
        rd_kafka_header_get_all(list, count, &name, &bytes, &size) == RD_KAFKA_RESP_ERR_NO_ERROR, let name
      {
        // SAFETY: the name is NUL-terminated, the value has `size` bytes; both live while the message does, which
        // outlives this call.
        headers.initializeElement(
          at: count,
          to: RecordHeader(
            name: LentBytes(start: name, count: strlen(name)),
            value: LentBytes(start: bytes, count: bytes == nil ? 0 : size)))
        count += 1
      }
      body(
        Record(
          topic: LentBytes(start: nil, count: 0),
          key: message.pointee.key.map { LentBytes(start: $0, count: message.pointee.key_len) },
          value: message.pointee.payload.map { LentBytes(start: $0, count: message.pointee.len) },
          headers: UnsafeBufferPointer(rebasing: headers[..<count])))
    }
  }
}
