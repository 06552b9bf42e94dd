// Owns: where in a row a value stands, and how its bytes are read.
// Must not know: what the value is for.

/// A value of the row. It holds no reference: to copy it costs no retain.
struct ColumnSource: BitwiseCopyable {
  /// In the order of `Relation.columns`.
  var index: Int
  var form: ColumnType.Form
  /// The declared zone of a `timestamp`.
  var zone: LocalTime?
}
