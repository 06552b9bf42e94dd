// Owns: what an operator says about one outbox table.
// Must not know: YAML, and how the mapping is carried out.

/// How the rows of one outbox table become events. Every field has the default of the configuration file.
public struct OutboxMapping: Equatable, Sendable {
  public enum ContentMode: String, CaseIterable, Sendable { case binary, structured }
  /// What happens to a row or record that is rejected for good.
  public enum RejectionPolicy: String, CaseIterable, Sendable { case halt }

  /// The column that holds each part of an event. Nil: the usual names are tried, see `defaults`.
  public struct Columns: Equatable, Sendable {
    public var id: String?
    public var type: String?
    public var payload: String?
    /// The aggregate id.
    public var subject: String?
    public var aggregatetype: String?
    public var time: String?
    /// What `timestamp` columns, which have no zone, are written in. Nil: UTC, and nobody has said so.
    public var timeZone: TimeZoneRules?
    /// A `json` or `jsonb` object whose keys become extension attributes.
    public var headers: String?
    public var datacontenttype: String?

    public init() {}

    /// The names that are tried, in this order, where the mapping names no column.
    public static let defaults: [(role: String, names: [String])] = [
      ("id", ["id"]),
      ("type", ["type", "event_type"]),
      ("payload", ["payload"]),
      ("subject", ["aggregateid", "aggregate_id"]),
      ("aggregatetype", ["aggregatetype", "aggregate_type"]),
      ("time", ["created_at"]),
      ("headers", ["headers"]),
      ("datacontenttype", []),
    ]
  }

  public struct Extension: Equatable, Sendable {
    /// `[a-z0-9]+`, not the name of a context attribute and not `data`.
    public var name: String
    public var column: String

    public init(name: String, column: String) {
      self.name = name
      self.column = column
    }
  }

  public var schema: String
  public var table: String
  /// A template over columns and attributes, and `{database}`, `{schema}`, `{table}`.
  public var source: Template
  public var topic: Template
  /// Nil: every record has a null key, and there is no order between them.
  public var key: Template?
  public var contentMode: ContentMode
  public var columns: Columns
  /// A fixed media type. Nil: by the column of that name, else by the payload's type.
  public var datacontenttype: String?
  public var dataschema: Template?
  public var extensions: [Extension]
  /// Adds the attribute `partitionkey` with the record's key.
  public var partitionkey: Bool
  public var onRejection: RejectionPolicy
  /// Of all outboxes: no event may go to another topic, whatever its row says.
  public var allowedTopics = AllowedTopics()

  public init(schema: String = "public", table: String = "outbox") {
    self.schema = schema
    self.table = table
    source = Template.defaultSource
    topic = Template.defaultTopic
    key = Template.defaultKey
    contentMode = .binary
    columns = Columns()
    datacontenttype = nil
    dataschema = nil
    extensions = []
    partitionkey = false
    onRejection = .halt
  }

  /// `schema.table`, as messages and the configuration name it.
  public var qualifiedName: String { QualifiedName.text(schema, table) }
}
