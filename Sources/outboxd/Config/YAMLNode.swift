// Owns: a node of a YAML tree, with its place.
// Must not know: which keys there are, or what a value means.

/// A node of the tree.
struct YAMLNode: Equatable, Sendable {
  enum Content: Equatable, Sendable {
    /// `isPlain`: written without quotes and not as a block.
    case scalar(String, isPlain: Bool)
    case sequence([YAMLNode])
    case mapping([YAMLEntry])
  }

  var content: Content
  var position: SourcePosition

  /// True for a plain scalar that is nothing, `~` or `null`.
  var isNull: Bool {
    guard case .scalar(let text, isPlain: true) = content else { return false }
    return ["", "~", "null", "Null", "NULL"].contains(text)
  }

  /// What a message calls it.
  var kindName: String {
    switch content {
    case .scalar: "a single value"
    case .sequence: "a list"
    case .mapping: "a mapping"
    }
  }
}

struct YAMLEntry: Equatable, Sendable {
  var key: String
  var keyPosition: SourcePosition
  var value: YAMLNode
}
