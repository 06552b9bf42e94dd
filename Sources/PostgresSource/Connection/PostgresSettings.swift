// Owns: what an operator says about Postgres.
// Must not know: the configuration file, connections.

/// Every field has the default of the configuration file.
public struct PostgresSettings: Equatable, Sendable {
  /// Whether the journal table `outboxd.checkpoint` is used.
  public enum Journal: String, CaseIterable, Sendable {
    /// Used if it is there; without it the relay says what it cannot promise.
    case auto
    /// The relay refuses to start without it.
    case required
    case off
  }

  /// libpq's connection string or URI. Never printed with a password in it.
  public var conninfo = ""
  /// Read at each connect, so that a password can be rotated. A trailing newline is dropped.
  public var passwordFile: String?
  /// As `conninfo`, for the role that reads the tables of outboxes. Nil: the same role does.
  public var readConninfo: String?
  /// As `passwordFile`, of that role.
  public var readPasswordFile: String?
  public var slot = "outboxd"
  public var publication = "outboxd"
  public var journal = Journal.auto
  /// In seconds: for how long WAL is kept for a replay. Nil: it is not.
  public var replayWindow: Int?
  /// How many bytes of WAL at most are kept for a replay.
  public var replayMaxBytes: UInt64 = 10 << 30
  /// False leaves the receive buffer of the stream to the system.
  public var isAdaptive = true
  /// The only server that a connection may lead to, as it was found before: no operator says it. Nil: any.
  public var server: ServerIdentity?

  public init() {}
}
