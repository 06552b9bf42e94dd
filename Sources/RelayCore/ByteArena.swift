// Owns: memory for the texts of one row: it is handed out in a row, stays where it is, and is taken back
// as a whole. Must not know: what is written into it.

/// Memory that lives until `reset`. What is handed out never moves.
struct ByteArena: ~Copyable {
  private var chunks: [UnsafeMutableRawBufferPointer]
  private var current = 0
  private var used = 0

  init(chunkSize: Int = 16 * 1024) {
    chunks = [.allocate(byteCount: chunkSize, alignment: 16)]
  }

  deinit {
    for chunk in chunks { chunk.deallocate() }
  }

  /// Takes everything back. Chunks beyond the first are freed where they are large, so that one giant row
  /// does not hold its memory for ever.
  mutating func reset() {
    if chunks.count > 1 {
      for chunk in chunks.dropFirst() { chunk.deallocate() }
      chunks.removeSubrange(1...)
    }
    current = 0
    used = 0
  }

  /// Room for `count` bytes. `shrink` gives back what was not needed of the newest piece.
  mutating func reserve(_ count: Int) -> UnsafeMutableRawPointer {
    if used + count > chunks[current].count {
      chunks.append(.allocate(byteCount: max(count, chunks[0].count), alignment: 16))
      current = chunks.count - 1
      used = 0
    }
    // SAFETY: `used + count` is within the chunk; a chunk is freed only by `reset` and `deinit`. A chunk has
    // at least one byte, so it has an address.
    let start = chunks[current].baseAddress.unsafelyUnwrapped + used
    used += count
    return start
  }

  /// Gives back the last `count` bytes of the newest piece.
  mutating func shrink(by count: Int) {
    used -= count
  }

  /// A copy of `bytes`, with a NUL byte behind that is not counted.
  mutating func copy(_ bytes: LentBytes) -> LentBytes {
    let target = reserve(bytes.count + 1)
    // SAFETY: `target` has room for the bytes and the NUL, and does not overlap a lent buffer.
    if let source = bytes.baseAddress { target.copyMemory(from: source, byteCount: bytes.count) }
    target.storeBytes(of: 0, toByteOffset: bytes.count, as: UInt8.self)
    return LentBytes(start: target, count: bytes.count)
  }
}

/// A text that lives as long as its owner: literals of a plan.
final class Literals {
  private var buffers: [UnsafeMutableRawBufferPointer] = []

  deinit {
    for buffer in buffers { buffer.deallocate() }
  }

  /// The UTF-8 of `text`, with a NUL byte behind that is not counted.
  func lend(_ text: String) -> LentBytes {
    let utf8 = Array(text.utf8)
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: utf8.count + 1, alignment: 1)
    // SAFETY: the buffer has one byte more than is copied; it is freed with this object, which the plan
    // that uses the text owns.
    buffer.copyBytes(from: utf8)
    buffer[utf8.count] = 0
    buffers.append(buffer)
    return LentBytes(rebasing: buffer[..<utf8.count])
  }
}
