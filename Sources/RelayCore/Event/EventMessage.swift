// Owns: the buffers that an event is written into, kept from row to row: headers and JSON text.
// Must not know: what stands where.

/// The message of one event while it is written.
struct EventMessage: ~Copyable {
  /// The most headers, the mark of a replay not counted: ten of attributes, those of the headers column, and the
  /// mapping's extensions.
  static let maximumHeaders = 128

  private let list: UnsafeMutablePointer<RecordHeader>
  private var count = 0
  var json = JSONWriter()

  init() { list = .allocate(capacity: Self.maximumHeaders + 1) }

  deinit { list.deallocate() }

  /// Lent until the following `reset`.
  var headers: UnsafeBufferPointer<RecordHeader> { UnsafeBufferPointer(start: list, count: count) }

  @inline(__always)
  mutating func reset() { count = 0 }

  @inline(__always)
  mutating func add(_ name: StaticString, _ value: LentBytes) {
    // SAFETY: at most ten fixed headers come before any other, the replay's mark comes last, and there is room for
    // one more than `maximumHeaders`.
    (list + count).initialize(to: RecordHeader(name: ValueText.staticText(name), value: value))
    count += 1
  }

  /// - Throws: where there is no room for another.
  mutating func add(name: LentBytes, value: LentBytes) throws(RowFault) {
    guard count < Self.maximumHeaders else {
      throw RowFault("extensions", "there are more than \(Self.maximumHeaders) headers")
    }
    // SAFETY: the count is below the capacity.
    (list + count).initialize(to: RecordHeader(name: name, value: value))
    count += 1
  }
}
