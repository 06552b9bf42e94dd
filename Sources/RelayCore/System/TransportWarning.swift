// Owns: the form of what there is to say of a connection that is not protected on its way.
// Must not know: Postgres, Kafka.

public struct TransportWarning: Equatable, Sendable {
  /// What is not protected, and what can come of it.
  public var message: String
  public var remedy: String

  public init(_ message: String, remedy: String) {
    self.message = message
    self.remedy = remedy
  }
}
