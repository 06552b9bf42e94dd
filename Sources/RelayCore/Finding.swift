// Owns: the form of what was found out before or beside the relay's work, good or bad.
// Must not know: Postgres, Kafka, how it is printed.

public struct Finding: Equatable, Sendable {
  public enum Level: String, Sendable {
    case ok
    /// To be known beforehand, and no reason for a line of the log at each start.
    case notice
    /// It does not stop the relay, and ought to be known.
    case warning
    case error
  }

  public var level: Level
  /// What it is about: a file, Postgres, a table, Kafka, a topic. Empty: what was examined.
  public var subject: String
  public var message: String
  public var remedy: String?

  public init(level: Level = .warning, subject: String = "", message: String, remedy: String? = nil) {
    self.level = level
    self.subject = subject
    self.message = message
    self.remedy = remedy
  }
}

extension Log {
  public func warning(_ finding: Finding) {
    write(.warning, finding.message, finding.remedy.map { [("remedy", $0)] } ?? [])
  }
}
