// Owns: a record as one line of JSON.
// Must not know: where the line goes.

/// Writes records as JSON lines. The buffer is kept from record to record.
///
/// `{"topic":"…","key":"…","headers":[{"name":"…","value":"…"}],"value":"…"}` and a newline. Key, value and the
/// values of headers are strings that hold exactly the record's bytes; bytes that are not UTF-8 stand in base64
/// (RFC 4648) under `key_base64` and `value_base64` instead. A missing key, and the value of a tombstone, are null.
public struct RecordLine: ~Copyable {
  /// How every line begins.
  public static let beginning: StaticString = #"{"topic":"#

  private var writer = JSONWriter()

  public init() {}

  /// The record's line, with the newline. Valid until the next call.
  public mutating func line(of record: Record) -> LentBytes {
    writer.reset()
    writer.raw(Self.beginning)
    writer.string(record.topic)
    member(#","key":"#, #","key_base64":"#, record.key)
    writer.raw(#","headers":["#)
    for (index, header) in record.headers.enumerated() {
      if index > 0 { writer.raw(",") }
      writer.raw(#"{"name":"#)
      writer.string(header.name)
      member(#","value":"#, #","value_base64":"#, header.value)
      writer.raw("}")
    }
    writer.raw("]")
    member(#","value":"#, #","value_base64":"#, record.value)
    writer.raw("}\n")
    return writer.bytes
  }

  private mutating func member(_ text: StaticString, _ base64: StaticString, _ bytes: LentBytes?) {
    guard let bytes else {
      writer.raw(text)
      return writer.raw("null")
    }
    if UTF8Rules.isValid(bytes) {
      writer.raw(text)
      writer.string(bytes)
    } else {
      writer.raw(base64)
      writer.base64(bytes)
    }
  }
}
