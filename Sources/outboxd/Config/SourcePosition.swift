// Owns: a place in a file.
// Must not know: which file.

/// A place in a file. Both count from 1.
struct SourcePosition: Equatable, Sendable {
  var line: Int
  var column: Int
}
