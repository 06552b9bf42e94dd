// Owns: memory for the texts of one row: it is handed out in a row, stays where it is, and is taken back
// as a whole. Must not know: what is written into it.

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

/// Memory that lives as long as its owner: literals and segments of a plan.
final class Literals {
  private var buffers: [UnsafeMutableRawBufferPointer] = []

  deinit {
    for buffer in buffers { buffer.deallocate() }
  }

  /// The UTF-8 of `text`, with a NUL byte behind that is not counted.
  func lend(_ text: String) -> LentBytes {
    Array(text.utf8).withUnsafeBytes(lend)
  }

  /// A copy of `bytes`, with a NUL byte behind that is not counted.
  func lend(_ bytes: LentBytes) -> LentBytes {
    let buffer = allocate(bytes.count + 1, alignment: 1)
    // SAFETY: the buffer has one byte more than is copied; it is freed with this object, which the plan
    // that uses the text owns.
    buffer.copyMemory(from: bytes)
    buffer[bytes.count] = 0
    return LentBytes(rebasing: buffer[..<bytes.count])
  }

  func lend(_ segments: [RowPlan.Segment]) -> UnsafeBufferPointer<RowPlan.Segment> {
    let buffer = allocate(
      MemoryLayout<RowPlan.Segment>.stride * segments.count,
      alignment: MemoryLayout<RowPlan.Segment>.alignment
    ).bindMemory(to: RowPlan.Segment.self)
    // SAFETY: the buffer has room for exactly these, which are trivial and need no end.
    _ = buffer.initialize(from: segments)
    return UnsafeBufferPointer(buffer)
  }

  func lend(_ offsets: [TimeZoneRules.Offset]) -> UnsafeBufferPointer<TimeZoneRules.Offset> {
    let buffer = allocate(
      MemoryLayout<TimeZoneRules.Offset>.stride * offsets.count,
      alignment: MemoryLayout<TimeZoneRules.Offset>.alignment
    ).bindMemory(to: TimeZoneRules.Offset.self)
    // SAFETY: the buffer has room for exactly these, which are trivial and need no end.
    _ = buffer.initialize(from: offsets)
    return UnsafeBufferPointer(buffer)
  }

  func lendPieces(_ count: Int) -> UnsafeMutablePointer<LentBytes> {
    let pieces = allocate(
      MemoryLayout<LentBytes>.stride * max(1, count), alignment: MemoryLayout<LentBytes>.alignment
    ).bindMemory(to: LentBytes.self)
    pieces.initialize(repeating: LentBytes(start: nil, count: 0))
    // SAFETY: the buffer is not empty, so it has an address.
    return pieces.baseAddress.unsafelyUnwrapped
  }

  private func allocate(_ count: Int, alignment: Int) -> UnsafeMutableRawBufferPointer {
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: alignment)
    buffers.append(buffer)
    return buffer
  }
}
