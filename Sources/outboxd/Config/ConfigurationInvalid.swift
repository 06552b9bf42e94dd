// Owns: all faults of one configuration, as an error.
// Must not know: how a setting is read.
import RelayCore

/// All faults of one configuration.
struct ConfigurationInvalid: Error, Equatable, Sendable {
  var faults: [ConfigurationFault]

  /// One line for each fault. The command line prints them as they are, and exits with 78.
  var relayError: RelayError {
    RelayError(.configurationInvalid, faults.map(\.description).joined(separator: "\n"))
  }
}
