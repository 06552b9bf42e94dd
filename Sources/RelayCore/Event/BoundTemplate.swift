// Owns: a template whose placeholders are bound to columns, and its text for a row.
// Must not know: what the text is for.
import Glibc

/// A template with its placeholders bound. It holds no reference: to copy it costs no retain.
struct BoundTemplate: BitwiseCopyable {
  enum Segment: BitwiseCopyable {
    case literal(LentBytes)
    case column(ColumnSource)
  }

  private let segments: UnsafeBufferPointer<Segment>
  /// The whole text where no column is in it.
  let constant: LentBytes?
  /// Room for one piece of each segment.
  private let pieces: UnsafeMutablePointer<LentBytes>

  /// - Parameter literals: lends what the template needs, and must live as long.
  init(_ segments: [Segment], constant: String?, _ literals: Literals) {
    self.segments = literals.lend(segments)
    self.constant = constant.map(literals.lend)
    pieces = literals.lendPieces(segments.count)
  }

  /// The columns that are in it, in their order there.
  var columns: [ColumnSource] {
    segments.compactMap { if case .column(let column) = $0 { column } else { nil } }
  }

  /// Its text; nil if a column in it is NULL. Lent from the row where that holds it as it is, else from `arena`.
  /// - Parameters:
  ///   - part: what the text is for, in the fault.
  ///   - keepsBytes: a template that is nothing but a bytea stays as it is, and is no base64.
  /// - Throws: where a value has no text.
  @inline(__always)
  func text(
    _ row: RowView, _ part: String, keepsBytes: Bool = false, _ arena: inout ByteArena
  ) throws(RowFault) -> LentBytes? {
    if let constant { return constant }
    if segments.count == 1, case .column(let column) = segments[0] {
      let value = row.values[column.index]
      if value.format == .null { return nil }
      if keepsBytes, column.form == .bytea { return value.bytes }
      return try ValueText.text(of: value, column, part: part, arena: &arena)
    }
    return try joined(row, part, &arena)
  }

  private func joined(
    _ row: RowView, _ part: String, _ arena: inout ByteArena
  ) throws(RowFault) -> LentBytes? {
    var total = 0
    for index in 0..<segments.count {
      let piece: LentBytes
      switch segments[index] {
      case .literal(let bytes): piece = bytes
      case .column(let column):
        let value = row.values[column.index]
        if value.format == .null { return nil }
        piece = try ValueText.text(of: value, column, part: part, arena: &arena)
      }
      // SAFETY: there is room for as many pieces as segments.
      pieces[index] = piece
      total += piece.count
    }
    let target = arena.reserve(total)
    var position = 0
    for index in 0..<segments.count {
      let piece = pieces[index]
      // SAFETY: the pieces have the lengths that were summed up above, so all of them fit into `total`.
      if let start = piece.baseAddress { memcpy(target + position, start, piece.count) }
      position += piece.count
    }
    return LentBytes(start: target, count: total)
  }
}
