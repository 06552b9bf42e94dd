// Owns: base64 (RFC 4648, section 4), with padding.
// Must not know: what the bytes are.

enum Base64 {
  private static let alphabet: StaticString =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

  static func count(of bytes: Int) -> Int { (bytes + 2) / 3 * 4 }

  /// Writes with padding; returns the number of bytes.
  static func write(_ bytes: LentBytes, to target: UnsafeMutableRawPointer) -> Int {
    // SAFETY: the alphabet has 64 bytes and an index has six bits; the caller has `count(of:)` bytes of room.
    let letters = alphabet.utf8Start
    let output = target.assumingMemoryBound(to: UInt8.self)
    var written = 0
    var index = 0
    while index < bytes.count {
      let left = bytes.count - index
      let first = UInt32(bytes[index])
      let second = left > 1 ? UInt32(bytes[index + 1]) : 0
      let third = left > 2 ? UInt32(bytes[index + 2]) : 0
      let group = first << 16 | second << 8 | third
      output[written] = letters[Int(group >> 18)]
      output[written + 1] = letters[Int(group >> 12 & 63)]
      output[written + 2] = left > 1 ? letters[Int(group >> 6 & 63)] : 0x3D
      output[written + 3] = left > 2 ? letters[Int(group & 63)] : 0x3D
      written += 4
      index += 3
    }
    return written
  }
}
