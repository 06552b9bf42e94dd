// Owns: the argument array of `rd_kafka_produceva`, refilled for each record; the view of a record that
// came back; log lines as they come out of an event.
// Must not know: topics and states.
import CRdkafka
import Glibc
import RelayCore

/// The arguments of a produce call. Tags are set once; only the values change from record to record.
final class ProduceArguments {
  private let arguments: UnsafeMutablePointer<rd_kafka_vu_t>
  private static let count = 8

  /// What the pointer of an empty key or value is: null would mean that there is none.
  /// It is never read.
  static var emptyBytes: UnsafeRawPointer { UnsafeRawPointer(StaticString("").utf8Start) }

  init() {
    arguments = .allocate(capacity: Self.count)
    arguments.initialize(repeating: rd_kafka_vu_t(), count: Self.count)
    let tags = [
      RD_KAFKA_VTYPE_RKT, RD_KAFKA_VTYPE_PARTITION, RD_KAFKA_VTYPE_MSGFLAGS, RD_KAFKA_VTYPE_OPAQUE,
      RD_KAFKA_VTYPE_VALUE, RD_KAFKA_VTYPE_KEY, RD_KAFKA_VTYPE_TIMESTAMP, RD_KAFKA_VTYPE_HEADERS,
    ]
    // SAFETY: `count` arguments are initialised, and there are as many tags.
    for (index, tag) in tags.enumerated() { arguments[index].vtype = tag }
    arguments[1].u.i32 = RD_KAFKA_PARTITION_UA
    arguments[2].u.i = RD_KAFKA_MSG_F_COPY
    setTime()
  }

  /// The timestamp of the records that follow. librdkafka would look at the clock for each.
  func setTime() {
    // SAFETY: the index is below `count`.
    arguments[6].u.i64 = (postgresNow() + .unixEpochOffset) / 1000
  }

  deinit {
    arguments.deinitialize(count: Self.count)
    arguments.deallocate()
  }

  /// Nil: librdkafka has the record and owns the headers. Otherwise the error is the caller's to destroy,
  /// and the headers are still the caller's.
  @inline(__always)
  func produce(
    client: OpaquePointer, topic: OpaquePointer, record: Record, headers: OpaquePointer?, opaque: UInt64
  ) -> OpaquePointer? {
    // SAFETY: all indexes are below `count`; key and value are lent during the call, and MSG_F_COPY makes
    // librdkafka copy them.
    arguments[0].u.rkt = topic
    arguments[3].u.ptr = UnsafeMutableRawPointer(bitPattern: UInt(opaque))
    set(4, record.value)
    set(5, record.key)
    arguments[7].u.headers = headers
    return rd_kafka_produceva(client, arguments, headers == nil ? Self.count - 1 : Self.count)
  }

  @inline(__always)
  private func set(_ index: Int, _ bytes: LentBytes?) {
    if let bytes {
      arguments[index].u.mem.ptr =
        bytes.baseAddress.map { UnsafeMutableRawPointer(mutating: $0) }
        ?? UnsafeMutableRawPointer(mutating: Self.emptyBytes)
      arguments[index].u.mem.size = bytes.count
    } else {
      arguments[index].u.mem.ptr = nil
      arguments[index].u.mem.size = 0
    }
  }
}

/// A record as librdkafka hands it back.
enum UndeliveredRecord {
  /// Lends the record to `body`. `topic` is its name.
  static func read(
    _ message: UnsafePointer<rd_kafka_message_t>, _ body: (_ record: Record, _ topic: String) -> Void
  ) {
    // SAFETY: key, value, headers and topic live as long as the message, which outlives this call.
    let key = message.pointee.key.map { LentBytes(start: $0, count: message.pointee.key_len) }
    let value = message.pointee.payload.map { LentBytes(start: $0, count: message.pointee.len) }
    let name = message.pointee.rkt.flatMap { rd_kafka_topic_name($0) }
    let topic = LentBytes(start: name, count: name.map { strlen($0) } ?? 0)
    headers(of: message).withUnsafeBufferPointer { headers in
      body(
        Record(topic: topic, key: key, value: value, headers: headers),
        String(decoding: topic, as: UTF8.self))
    }
  }

  private static func headers(of message: UnsafePointer<rd_kafka_message_t>) -> [RecordHeader] {
    var list: OpaquePointer?
    guard rd_kafka_message_headers(message, &list) == RD_KAFKA_RESP_ERR_NO_ERROR, let list else { return [] }
    var result: [RecordHeader] = []
    var name: UnsafePointer<CChar>?
    var value: UnsafeRawPointer?
    var size = 0
    while rd_kafka_header_get_all(list, result.count, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR {
      guard let name else { break }
      // SAFETY: librdkafka keeps name (NUL-terminated) and value (`size` bytes) while the message lives.
      result.append(
        RecordHeader(
          name: LentBytes(start: name, count: strlen(name)),
          value: LentBytes(start: value, count: value == nil ? 0 : size)))
    }
    return result
  }
}

/// A batch of several records that came back undelivered.
struct RefusedBatch {
  let code: rd_kafka_resp_err_t
  let records: Int
  private(set) var topic = ""
  /// What its records take, about, uncompressed.
  private(set) var bytes = 0

  /// What Kafka's format adds to a record, about.
  private static let perRecord = 16

  init(code: rd_kafka_resp_err_t, records: Int) {
    self.code = code
    self.records = records
  }

  mutating func add(_ message: UnsafePointer<rd_kafka_message_t>) {
    UndeliveredRecord.read(message) { record, topic in
      self.topic = topic
      bytes += record.sizes.total + Self.perRecord
    }
  }
}

extension ProducerHandle {
  struct LogLine {
    var level: Log.Level
    var facility: String
    var text: String
  }

  /// librdkafka's own line, with its level in outboxd's terms.
  func logLine(_ event: OpaquePointer) -> LogLine? {
    var facility: UnsafePointer<CChar>?
    var text: UnsafePointer<CChar>?
    var level: Int32 = 7
    guard rd_kafka_event_log(event, &facility, &text, &level) == 0, let facility, let text else { return nil }
    // SAFETY: both are NUL-terminated and live until the event is destroyed; they are copied here.
    let line = String(cString: text)
    return LogLine(
      level: Self.isRoutine(line) ? .debug : Self.level(syslog: level), facility: String(cString: facility),
      text: line)
  }

  /// Lines that librdkafka writes at each start, and that ask nothing of anybody; and the end of a producer for a
  /// record's sake, which its delivery tells.
  private static func isRoutine(_ line: String) -> Bool {
    line.contains("is experimental") || line.contains("Coordinator load in progress")
      || line.contains("unable to satisfy gap-less guarantee")
  }

  /// librdkafka calls a refused connection an error; for a relay that waits it is a warning.
  static func level(syslog: Int32) -> Log.Level {
    switch syslog {
    case ...2: .error
    case 3, 4: .warning
    case 5: .notice
    case 6: .info
    default: .debug
    }
  }
}
