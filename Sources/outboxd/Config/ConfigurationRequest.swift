// Owns: what there is to load a configuration from.
// Must not know: how it is read.

/// What there is to load from. Flags win over the environment, that over the file, that over the defaults.
struct ConfigurationRequest: Sendable {
  /// `--config`. Nil: the first of `searchPaths` that exists, or none.
  var file: String?
  var settings: [(key: String, value: String)] = []
  var environment: [String: String] = [:]
  var searchPaths = ["outboxd.yaml", "/etc/outboxd/outboxd.yaml"]
}
