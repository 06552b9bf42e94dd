// Owns: what one place says (the file, the environment, the flags), still as text, and how the places are
// laid over each other.
// Must not know: what a value means.

struct ConfigurationLayer: Sendable {
  /// By the path of the key.
  var values: [String: Setting] = [:]
  var maps: [String: [MapEntry]] = [:]
  /// The items of `outboxes`. Nil: not given.
  var outboxes: [ConfigurationLayer]?
  /// Where each section begins, and where the layer itself does ("").
  var sections: [String: SettingOrigin] = [:]
  /// Paths whose value is a fault already: they are not missing.
  var faulty: Set<String> = []

  /// Lays `upper` over this layer.
  mutating func override(by upper: ConfigurationLayer) {
    values.merge(upper.values) { $1 }
    for (path, entries) in upper.maps {
      // A property in the upper layer replaces both forms of the lower one, KEY and KEY_file.
      let replaced = Set(entries.map { Self.withoutFileSuffix($0.name) })
      let kept = maps[path, default: []].filter { !replaced.contains(Self.withoutFileSuffix($0.name)) }
      maps[path] = kept + entries
    }
    outboxes = upper.outboxes ?? outboxes
    sections.merge(upper.sections) { $1 }
    faulty.formUnion(upper.faulty)
  }

  static let fileSuffix = "_file"

  static func withoutFileSuffix(_ name: String) -> String {
    name.hasSuffix(fileSuffix) ? String(name.dropLast(fileSuffix.count)) : name
  }
}
