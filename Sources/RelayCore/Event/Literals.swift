// Owns: the memory of what a plan lends: texts, segments, offsets.
// Must not know: rows.

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

  func lend(_ segments: [BoundTemplate.Segment]) -> UnsafeBufferPointer<BoundTemplate.Segment> {
    let buffer = allocate(
      MemoryLayout<BoundTemplate.Segment>.stride * segments.count,
      alignment: MemoryLayout<BoundTemplate.Segment>.alignment
    ).bindMemory(to: BoundTemplate.Segment.self)
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
