// Owns: what the demo calls its schemas, topics, slot and publication.
// Must not know: what is in them.

/// What the demo calls things, in a database of its own or in a given one.
struct DemoNames: Sendable {
  /// In front of each schema and topic: nothing in a database of the demo's own.
  var schemaPrefix: String
  var topicPrefix: String
  /// In front of each source. In topics that outlive the demo the next one's must not look like the same source.
  var sourcePrefix: String

  static let slot = "outboxd_demo"
  static let publication = "outboxd_demo"
  static let services = ["orders", "payments", "inventory", "notifications"]

  var schemas: [String] { Self.services.map { schemaPrefix + $0 } }

  var topics: [String] {
    ["order", "payment", "stock"].map { "\(topicPrefix)outbox.event.\($0)" } + [
      "\(topicPrefix)notifications.v1"
    ]
  }

  func schema(_ service: String) -> String { schemaPrefix + service }
}
