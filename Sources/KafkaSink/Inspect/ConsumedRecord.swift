// Owns: a record as a consumer gets it.
// Must not know: what a record means, where it was read.
public import RelayCore

/// A record as a consumer gets it. Owns its bytes.
public struct ConsumedRecord: Sendable {
  public struct Header: Sendable, Equatable {
    public var name: String
    /// Nil is a null value.
    public var value: [UInt8]?
  }

  public var topic: String
  public var partition: Int32
  public var offset: Int64
  /// Milliseconds since 1970; −1 when the broker gave none.
  public var timestamp: Int64
  public var key: [UInt8]?
  public var value: [UInt8]?
  public var headers: [Header]

  /// The first header of that name, as text.
  public func header(_ name: String) -> String? {
    headers.first { $0.name == name }?.value.map { String(decoding: $0, as: UTF8.self) }
  }

  /// The record as it was sent; lent for the duration of `body`. A null header is an empty one.
  public func withRecord<Result>(_ body: (Record) -> Result) -> Result {
    let names = headers.map { Array($0.name.utf8) + [0] }
    let parts =
      [Array(topic.utf8), key ?? [], value ?? []] + zip(names, headers).flatMap { [$0, $1.value ?? []] }
    return Array(parts.joined()).withUnsafeBytes { bytes in
      var position = 0
      func next(_ count: Int, beside: Int = 0) -> LentBytes {
        defer { position += count + beside }
        return LentBytes(rebasing: bytes[position..<position + count])
      }
      let topic = next(parts[0].count)
      let (key, value) = (next(parts[1].count), next(parts[2].count))
      let headers = zip(names, self.headers).map { name, header in
        RecordHeader(name: next(name.count - 1, beside: 1), value: next(header.value?.count ?? 0))
      }
      return headers.withUnsafeBufferPointer { headers in
        body(
          Record(
            topic: topic, key: self.key == nil ? nil : key, value: self.value == nil ? nil : value,
            headers: headers))
      }
    }
  }
}
