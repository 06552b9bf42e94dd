// Owns: where a setting comes from.
// Must not know: what it says.

/// Where a setting comes from.
enum SettingOrigin: Equatable, Sendable {
  case file(String, SourcePosition)
  /// The name of the environment variable.
  case environment(String)
  /// The flag as it was written, `--set postgres.slot`.
  case flag(String)
}
