// Owns: what a record takes, as a sum for the budget and as sizes for a message.
// Must not know: librdkafka.
import RelayCore

/// What a record takes while it is in flight. It travels with the tag in the message's opaque, because a delivery
/// would have to look at every header to find it out again.
struct RecordCost {
  /// librdkafka's own for a message and for a header, about.
  private static let perMessage = 256
  private static let perHeader = 64
  private static let unit = 64
  private static let tagBits: UInt64 = 40
  private static let tagMask: UInt64 = (1 << tagBits) - 1

  private let units: UInt64

  /// - Parameter headerBytes: of all names and values.
  @inline(__always)
  init(_ record: Record, headerBytes: Int) {
    let bytes =
      Self.perMessage + (record.key?.count ?? 0) + (record.value?.count ?? 0)
      + Self.perHeader * record.headers.count + headerBytes
    units = min(UInt64((bytes + Self.unit - 1) / Self.unit), (1 << (64 - Self.tagBits)) - 1)
  }

  var bytes: Int { Int(units) * Self.unit }

  /// The tag's low 40 bits, and the cost above them.
  @inline(__always)
  func packed(with tag: UInt64) -> UInt64 { units << Self.tagBits | tag & Self.tagMask }

  /// Tags rise, and what is in flight lies within 2⁴⁰ below the last one.
  @inline(__always)
  static func unpack(_ opaque: UInt64, lastTag: UInt64) -> (tag: UInt64, bytes: Int) {
    var tag = lastTag & ~tagMask | opaque & tagMask
    if tag > lastTag { tag &-= 1 << tagBits }
    return (tag, Int(opaque >> tagBits) * unit)
  }
}

extension Record {
  var sizes: RecordSizes {
    RecordSizes(
      key: key?.count, value: value?.count,
      headers: headers.reduce(0) { $0 + $1.name.count + $1.value.count })
  }
}
