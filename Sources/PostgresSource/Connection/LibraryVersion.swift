// Owns: the version of the libpq that this process runs with.
// Must not know: connections.
import CLibpq

extension PostgresSettings {
  /// As `PQlibVersion` counts: `150020` is 15.20.
  public static let libraryVersion: String = {
    let number = PQlibVersion()
    return "\(number / 10_000).\(number % 10_000)"
  }()
}
