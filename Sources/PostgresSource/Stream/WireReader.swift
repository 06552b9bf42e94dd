// Owns: bounds. The only place that reads bytes of the wire, each read checked by hand.
// Must not know: what the bytes mean.
import RelayCore

/// Reads big-endian fields of one message from front to back. Valid as long as the message's bytes are.
struct WireReader {
  private let base: UnsafeRawPointer
  let count: Int
  private(set) var offset: Int
  /// The message's first byte, for errors.
  let tag: UInt8

  /// Starts behind the tag. Nil: the message has no bytes at all.
  @inline(__always)
  init?(_ message: LentBytes) {
    guard let base = message.baseAddress, message.count > 0 else { return nil }
    self.base = base
    count = message.count
    // SAFETY: count > 0, so byte 0 is inside the message.
    tag = base.load(as: UInt8.self)
    offset = 1
  }

  @inline(__always)
  var remaining: Int { count &- offset }

  @inline(__always)
  mutating func uint8() throws(RelayError) -> UInt8 {
    guard remaining >= 1 else { throw short(1) }
    // SAFETY: offset + 1 ≤ count, checked above.
    let value = base.load(fromByteOffset: offset, as: UInt8.self)
    offset &+= 1
    return value
  }

  @inline(__always)
  mutating func int16() throws(RelayError) -> Int16 {
    guard remaining >= 2 else { throw short(2) }
    // SAFETY: offset + 2 ≤ count, checked above.
    let value = base.loadUnaligned(fromByteOffset: offset, as: UInt16.self)
    offset &+= 2
    return Int16(bitPattern: UInt16(bigEndian: value))
  }

  @inline(__always)
  mutating func uint32() throws(RelayError) -> UInt32 {
    guard remaining >= 4 else { throw short(4) }
    // SAFETY: offset + 4 ≤ count, checked above.
    let value = base.loadUnaligned(fromByteOffset: offset, as: UInt32.self)
    offset &+= 4
    return UInt32(bigEndian: value)
  }

  @inline(__always)
  mutating func uint64() throws(RelayError) -> UInt64 {
    guard remaining >= 8 else { throw short(8) }
    // SAFETY: offset + 8 ≤ count, checked above.
    let value = base.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
    offset &+= 8
    return UInt64(bigEndian: value)
  }

  @inline(__always)
  mutating func lsn() throws(RelayError) -> LSN { LSN(try uint64()) }

  @inline(__always)
  mutating func time() throws(RelayError) -> PostgresMicroseconds { Int64(bitPattern: try uint64()) }

  /// `length` bytes, a number as it stood on the wire.
  @inline(__always)
  mutating func bytes(_ length: UInt32) throws(RelayError) -> LentBytes {
    // A negative length is a large one here, larger than any message.
    guard Int(length) <= remaining else { throw wrong(length) }
    // SAFETY: offset + length ≤ count, checked above.
    let slice = LentBytes(start: base + offset, count: Int(length))
    offset &+= Int(length)
    return slice
  }

  @inline(never)
  private func wrong(_ length: UInt32) -> RelayError {
    let length = Int32(bitPattern: length)
    return length < 0 ? malformed("a negative length, \(length)") : short(Int(length))
  }

  /// What is left of the message.
  mutating func rest() -> LentBytes {
    // SAFETY: offset ≤ count holds after every read, so the slice ends where the message does.
    let slice = LentBytes(start: base + offset, count: remaining)
    offset = count
    return slice
  }

  /// Bytes up to a NUL, which is skipped and not part of them.
  mutating func untilNUL() throws(RelayError) -> LentBytes {
    // SAFETY: the slice is what is left of the message; `firstIndex` stays inside it.
    let left = LentBytes(start: base + offset, count: remaining)
    guard let length = left.firstIndex(of: 0) else { throw malformed("a text without its NUL byte") }
    offset &+= length &+ 1
    return LentBytes(rebasing: left[..<length])
  }

  mutating func text() throws(RelayError) -> String {
    String(decoding: try untilNUL(), as: UTF8.self)
  }

  @inline(__always)
  func end() throws(RelayError) {
    guard offset == count else { throw malformed("\(remaining) bytes too many") }
  }

  @inline(never)
  private func short(_ needed: Int) -> RelayError {
    malformed("\(needed) bytes expected and \(remaining) left")
  }

  @inline(never)
  func malformed(_ reason: String) -> RelayError {
    Self.malformed(tag: tag, offset: offset, reason)
  }

  static func malformed(tag: UInt8?, offset: Int, _ reason: String) -> RelayError {
    let name =
      switch tag {
      case .some(let tag) where tag > 0x20 && tag < 0x7F: "'\(Character(UnicodeScalar(tag)))'"
      case .some(let tag): "0x" + (tag < 16 ? "0" : "") + String(tag, radix: 16)
      case nil: "without a tag"
      }
    return RelayError(
      .streamMalformed, "the server sent a message \(name) that is malformed at offset \(offset): \(reason)",
      remedy: "Check that nothing between outboxd and Postgres alters the stream (connect directly, without "
        + "a pooler), and report it with the server's version. \(PostgresSource.streamRemedy)")
  }
}
