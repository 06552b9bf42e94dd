// Owns: a name that the operator chose, with its value.
// Must not know: what either means.

/// A name that the operator chose, with its value.
struct MapEntry: Equatable, Sendable {
  var name: String
  var nameOrigin: SettingOrigin
  var setting: Setting
}
