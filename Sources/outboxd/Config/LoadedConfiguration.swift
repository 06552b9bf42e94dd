// Owns: a configuration that was loaded, with its file and its warnings.
// Must not know: how it was read.

struct LoadedConfiguration: Equatable, Sendable {
  var configuration: Configuration
  /// The file that was read. Nil: none was found.
  var file: String?
  var warnings: [ConfigurationFault]
}
