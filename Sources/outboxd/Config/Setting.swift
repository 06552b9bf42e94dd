// Owns: one value as it was written, with its place.
// Must not know: what it means.

struct Setting: Equatable, Sendable {
  var text: String
  var origin: SettingOrigin
  /// As it stands in the file, where variables were replaced in it.
  var written: String?
}
