// Owns: a growing buffer that a structured event is written into, and JSON's escapes.
// Must not know: CloudEvents.
import Glibc

/// Writes JSON text. The buffer is kept from row to row.
struct JSONWriter: ~Copyable {
  private var start: UnsafeMutableRawPointer
  /// Where the next byte goes.
  private var position: UnsafeMutableRawPointer
  private var end: UnsafeMutableRawPointer

  private static let firstCapacity = 8 * 1024
  /// Beyond this size the buffer is freed at the next `reset`.
  private static let keptCapacity = 256 * 1024

  init() {
    start = .allocate(byteCount: Self.firstCapacity, alignment: 16)
    position = start
    end = start + Self.firstCapacity
  }

  deinit {
    start.deallocate()
  }

  // SAFETY: the three point into one buffer, or just behind it, in the order start, position, end.

  var count: Int { position - start }
  var capacity: Int { end - start }
  /// What was written since `reset`. Valid until the next write.
  var bytes: LentBytes { LentBytes(start: start, count: count) }

  mutating func reset() {
    if capacity > Self.keptCapacity { move(toCapacity: Self.firstCapacity, keeping: 0) }
    position = start
  }

  /// Bytes as they are.
  @inline(__always)
  mutating func raw(_ bytes: LentBytes) {
    guard let source = bytes.baseAddress, !bytes.isEmpty else { return }
    // SAFETY: `room` has made space for exactly these bytes; the source is another buffer.
    memcpy(room(bytes.count), source, bytes.count)
    position += bytes.count
  }

  @inline(__always)
  mutating func raw(_ text: StaticString) {
    // SAFETY: a static string of more than one scalar has a pointer to its UTF-8, which never goes away.
    raw(LentBytes(start: text.utf8Start, count: text.utf8CodeUnitCount))
  }

  /// The name of a member as it stands in JSON, comma and colon included, and its value as a string.
  @inline(__always)
  mutating func member(_ name: StaticString, _ value: LentBytes) {
    raw(name)
    string(value)
  }

  /// A JSON string in quotes. `bytes` is valid UTF-8.
  mutating func string(_ bytes: LentBytes) {
    let plain = Self.plainPrefix(bytes)
    if plain < bytes.count { return escapedString(bytes, plain: plain) }
    plainString(bytes)
  }

  /// A JSON string in quotes of bytes that need no escape.
  @inline(__always)
  mutating func plainString(_ bytes: LentBytes) {
    // SAFETY: there is room for the bytes and the two quotes; the source is another buffer.
    let target = room(bytes.count + 2)
    target.storeBytes(of: 0x22, as: UInt8.self)
    if let source = bytes.baseAddress { memcpy(target + 1, source, bytes.count) }
    target.storeBytes(of: 0x22, toByteOffset: bytes.count &+ 1, as: UInt8.self)
    position += bytes.count &+ 2
  }

  /// Bytes that are escaped at a time: beyond what it needs, a string takes room for the escapes of so many.
  private static let escapedAtATime = 1024

  @inline(never)
  private mutating func escapedString(_ bytes: LentBytes, plain: Int) {
    // Few bytes of a long text need an escape; where more do, the buffer grows.
    _ = room(bytes.count + bytes.count / 8 + 6 * min(bytes.count, Self.escapedAtATime))
    raw("\"")
    raw(LentBytes(rebasing: bytes[..<plain]))
    var start = plain
    while start < bytes.count {
      let end = min(start + Self.escapedAtATime, bytes.count)
      // SAFETY: every byte becomes six at most.
      let target = room(6 * (end - start)).assumingMemoryBound(to: UInt8.self)
      position += Self.escape(LentBytes(rebasing: bytes[start..<end]), to: target)
      start = end
    }
    raw("\"")
  }

  /// - Returns: how many bytes were written: six for each at most, which is what `target` must have room for.
  @inline(__always)
  private static func escape(_ bytes: LentBytes, to target: UnsafeMutablePointer<UInt8>) -> Int {
    // SAFETY: the caller has made that room.
    var written = 0
    for byte in bytes {
      if byte >= 0x20 && byte != 0x22 && byte != 0x5C {
        target[written] = byte
        written += 1
        continue
      }
      target[written] = 0x5C
      written += 1
      switch byte {
      case 0x22, 0x5C: target[written] = byte
      case 0x0A: target[written] = 0x6E
      case 0x0D: target[written] = 0x72
      case 0x09: target[written] = 0x74
      default:
        target[written] = 0x75
        target[written + 1] = 0x30
        target[written + 2] = 0x30
        target[written + 3] = Hexadecimal.digit(byte >> 4)
        target[written + 4] = Hexadecimal.digit(byte & 15)
        written += 4
      }
      written += 1
    }
    return written
  }

  /// How many bytes there are before the first that needs an escape. Eight at a time; most texts need none.
  @inline(__always)
  private static func plainPrefix(_ bytes: LentBytes) -> Int {
    var position = bytes.prefixOfWords { word in
      let controls = (word &- ByteWord.ones &* 0x20) & ~word & ByteWord.highBits
      return controls | ByteWord.quotes(word) == 0
    }
    while position < bytes.count {
      let byte = bytes[position]
      if byte < 0x20 || byte == 0x22 || byte == 0x5C { break }
      position += 1
    }
    return position
  }

  /// True for printable ASCII that needs no escape.
  @inline(__always)
  static func isPlainASCII(_ bytes: LentBytes) -> Bool {
    var position = bytes.prefixOfWords { ByteWord.unprintable($0) | ByteWord.quotes($0) == 0 }
    while position < bytes.count {
      let byte = bytes[position]
      guard byte >= 0x20, byte < 0x7F, byte != 0x22, byte != 0x5C else { return false }
      position += 1
    }
    return true
  }

  /// A JSON string of the bytes in base64 (RFC 4648, section 4).
  mutating func base64(_ bytes: LentBytes) {
    // SAFETY: `Base64.count` bytes and two quotes are reserved, and no more are written.
    let target = room(Base64.count(of: bytes.count) + 2)
    target.storeBytes(of: 0x22, as: UInt8.self)
    let written = Base64.write(bytes, to: target + 1)
    target.storeBytes(of: 0x22, toByteOffset: written + 1, as: UInt8.self)
    position += written + 2
  }

  @inline(__always)
  private mutating func room(_ additional: Int) -> UnsafeMutableRawPointer {
    if end - position < additional { move(toCapacity: max(capacity * 2, count + additional), keeping: count) }
    return position
  }

  @inline(never)
  private mutating func move(toCapacity capacity: Int, keeping count: Int) {
    let other = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16)
    // SAFETY: both buffers hold at least `count` bytes, and the former is not used any more.
    other.copyMemory(from: start, byteCount: count)
    start.deallocate()
    start = other
    position = other + count
    end = other + capacity
  }
}
