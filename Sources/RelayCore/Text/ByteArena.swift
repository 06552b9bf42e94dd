// Owns: memory for the texts of one row: it is handed out in a row, stays where it is, and is taken back as a whole.
// Must not know: what is written into it.

/// Memory that lives until `reset`. What is handed out never moves.
struct ByteArena: ~Copyable {
  private let first: UnsafeMutableRawBufferPointer
  private var others: [UnsafeMutableRawBufferPointer] = []
  private var current: UnsafeMutableRawBufferPointer
  private var used = 0

  init(chunkSize: Int = 16 * 1024) {
    first = .allocate(byteCount: chunkSize, alignment: 16)
    current = first
  }

  deinit {
    for chunk in others { chunk.deallocate() }
    first.deallocate()
  }

  /// Takes everything back. Chunks beyond the first are freed, so that one giant row does not hold its memory for
  /// ever.
  @inline(__always)
  mutating func reset() {
    if !others.isEmpty { release() }
    used = 0
  }

  @inline(never)
  private mutating func release() {
    for chunk in others { chunk.deallocate() }
    others = []
    current = first
  }

  /// Room for `count` bytes. `shrink` gives back what was not needed of the newest piece.
  @inline(__always)
  mutating func reserve(_ count: Int) -> UnsafeMutableRawPointer {
    if used + count > current.count { extend(count) }
    // SAFETY: `used + count` is within the chunk; a chunk is freed only by `reset` and `deinit`. A chunk has
    // at least one byte, so it has an address.
    let start = current.baseAddress.unsafelyUnwrapped + used
    used += count
    return start
  }

  @inline(never)
  private mutating func extend(_ count: Int) {
    current = .allocate(byteCount: max(count, first.count), alignment: 16)
    others.append(current)
    used = 0
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
