// Owns: whether a row belongs to the events that are wanted.
// Must not know: records.

extension EventEncoder {
  /// - Throws: `RowFault` where a wanted part of the row has no text, or the table has no such part.
  mutating func isSelected(
    _ row: RowView, _ plan: RowPlan, _ selection: EventSelection
  ) throws(RowFault) -> Bool {
    if !selection.outboxes.isEmpty, !selection.outboxes.contains(plan.mapping.qualifiedName) { return false }
    if !selection.ids.isEmpty, try !matches(row, plan.id, selection.ids, "id") { return false }
    if !selection.types.isEmpty, try !matches(row, plan.type, selection.types, "type") { return false }
    if !selection.subjects.isEmpty, try !matches(row, plan.subject, selection.subjects, "subject") {
      return false
    }
    if !selection.aggregatetypes.isEmpty,
      try !matches(row, plan.aggregatetype, selection.aggregatetypes, "aggregatetype")
    {
      return false
    }
    return true
  }

  private mutating func matches(
    _ row: RowView, _ column: ColumnSource?, _ wanted: [String], _ part: String
  ) throws(RowFault) -> Bool {
    guard let column else { return false }
    let value = row.values[column.index]
    if value.format == .null { return false }
    let text = try ValueText.text(of: value, column, part: part, arena: &arena)
    return wanted.contains { $0.utf8.elementsEqual(text) }
  }
}
