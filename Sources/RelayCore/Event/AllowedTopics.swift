// Owns: which topics events may go to: by Kafka's rules for a name, and by the patterns of an operator.
// Must not know: rows, templates.

/// Why no event may go to a topic.
public enum TopicFault: Equatable, Sendable {
  case name
  /// Kafka keeps its own state in topics whose names begin with two underscores.
  case isInternal
  case notAllowed

  /// Follows the topic's name.
  public var reason: String {
    switch self {
    case .name: "is not a topic name: 1 to 249 of A-Z a-z 0-9 . _ -"
    case .isInternal: "is an internal topic of Kafka, as its name begins with __"
    case .notAllowed: "is not among kafka.allowed_topics"
    }
  }
}

/// Names of topics, in which `*` stands for any run of characters, also for none: `orders.*`. None: every topic.
public struct AllowedTopics: Equatable, Sendable {
  public let patterns: [String]
  private let bytes: [[UInt8]]

  public init(_ patterns: [String] = []) {
    self.patterns = patterns
    bytes = patterns.map { Array($0.utf8) }
  }

  /// Nil where events may go to the topic.
  public func fault(_ topic: String) -> TopicFault? { Array(topic.utf8).withUnsafeBytes(fault) }

  func fault(_ topic: LentBytes) -> TopicFault? {
    guard CloudEventRules.isTopic(topic) else { return .name }
    if topic.count > 1, topic[0] == 0x5F, topic[1] == 0x5F { return .isInternal }
    if bytes.isEmpty { return nil }
    for pattern in bytes where Self.matches(pattern, topic) { return nil }
    return .notAllowed
  }

  /// The whole of the topic. After a mismatch only the last star takes more: what earlier ones took is long enough.
  private static func matches(_ pattern: [UInt8], _ topic: LentBytes) -> Bool {
    var (place, position) = (0, 0)
    var star: (place: Int, position: Int)?
    while position < topic.count {
      if place < pattern.count, pattern[place] == 0x2A {
        star = (place, position)
        place += 1
      } else if place < pattern.count, pattern[place] == topic[position] {
        place += 1
        position += 1
      } else if let last = star {
        star = (last.place, last.position + 1)
        (place, position) = (last.place + 1, last.position + 1)
      } else {
        return false
      }
    }
    while place < pattern.count, pattern[place] == 0x2A { place += 1 }
    return place == pattern.count
  }
}
