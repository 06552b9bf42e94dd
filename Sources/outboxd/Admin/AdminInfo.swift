// Owns: what the pages say that does not change while the process runs.
// Must not know: sockets.

/// What the pages say that does not change while the process runs.
struct AdminInfo: Sendable {
  var slot: String
  /// As far as the conninfo tells.
  var database: String?
  var version = Versions.outboxd
  var libraries = Versions.libraries
}
