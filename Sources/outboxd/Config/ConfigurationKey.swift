// Owns: the table of every key of the configuration: what the loader knows, what `config --schema` and the
// reference in the README say.
// Must not know: how a value is stored.
import KafkaSink
import PostgresSource
import RelayCore

struct ConfigurationKey: Sendable {
  enum Kind: Equatable, Sendable {
    case text
    /// A file that must be there and readable.
    case file
    case choice([String])
    case boolean
    /// `25s`, `500ms`.
    case duration
    /// `90s`, `24h`, `7d`, or `off`.
    case durationOrOff
    /// `10GiB`, `512MiB`, or plain bytes.
    case size
    case template
    /// A template, or `none`.
    case templateOrNone
    /// `host:port`, or `off`.
    case address
    /// `schema.table`.
    case table
    /// `[a-z0-9_]`, 1 to 63 of them.
    case slotName
    /// A name of Postgres: 1 to 63 bytes.
    case name
    case mediaType
    /// A time zone of IANA's database.
    case timeZone
    /// Several texts without commas: a list in the file, with commas between them elsewhere.
    case texts
    /// Free names with a single value each.
    case map
    /// The list of outboxes: the keys of an item follow with `[]` in their path.
    case list
  }

  /// `postgres.slot`; `outboxes[].table` for a key of each item of a list.
  let path: String
  let kind: Kind
  /// As it is written in the file. Nil: none.
  let defaultText: String?
  let help: String
  var isRequired = false
  /// Printed with dots in place of what is secret in it.
  var isSecret = false

  /// The last part of the path.
  var name: String {
    String(path[(path.lastIndex(of: ".").map { path.index(after: $0) } ?? path.startIndex)...])
  }

  /// The environment variable that sets it. Nil for the keys of an outbox, which only the file has.
  var environmentVariable: String? {
    switch kind {
    case .list, .map: nil
    default:
      path.contains("[]") ? nil : "OUTBOXD_" + path.uppercased().split(separator: ".").joined(separator: "_")
    }
  }

  static func named(_ path: String) -> ConfigurationKey? { byPath[path] }

  private static let byPath = Dictionary(uniqueKeysWithValues: all.map { ($0.path, $0) })

  static let kafkaProperties = "kafka.properties"
  static let outboxes = "outboxes"

  static let all: [ConfigurationKey] =
    postgresKeys + replayKeys + kafkaKeys + outboxKeys + columnKeys + zoneKeys + processKeys

  private static let postgresKeys = [
    ConfigurationKey(
      path: "postgres.conninfo", kind: .text, defaultText: nil,
      help: "How to connect: libpq's keywords (host=… dbname=… user=…) or a postgresql:// URI.",
      isRequired: true, isSecret: true),
    ConfigurationKey(
      path: "postgres.password_file", kind: .file, defaultText: nil,
      help: "A file with the password, read at each connect. PGPASSFILE and PGPASSWORD work too."),
    ConfigurationKey(
      path: "postgres.read_conninfo", kind: .text, defaultText: nil,
      help:
        "The same for a role without REPLICATION, which then reads the tables: check, backfill, recover, replay.",
      isSecret: true),
    ConfigurationKey(
      path: "postgres.read_password_file", kind: .file, defaultText: nil,
      help: "A file with the password of the role that reads the tables."),
    ConfigurationKey(
      path: "postgres.slot", kind: .slotName, defaultText: "outboxd",
      help: "The replication slot. One running outboxd for each slot; a second waits as standby."),
    ConfigurationKey(
      path: "postgres.publication", kind: .name, defaultText: "outboxd",
      help: "The publication that holds the outbox tables."),
    ConfigurationKey(
      path: "postgres.journal", kind: .choice(PostgresSettings.Journal.allCases.map(\.rawValue)),
      defaultText: "auto",
      help:
        "The checkpoint table outboxd.checkpoint: auto uses it if it exists, required refuses to start without it, off does not use it."
    ),
  ]

  private static let replayKeys = [
    ConfigurationKey(
      path: "replay.window", kind: .durationOrOff, defaultText: "off",
      help: "For how long a second slot, NAME_anchor, keeps WAL to replay from: 90s, 30m, 24h, 7d, or off."),
    ConfigurationKey(
      path: "replay.max_bytes", kind: .size, defaultText: "10GiB",
      help: "How much WAL the window may keep on the server; it is shortened rather than exceed it."),
  ]

  private static let kafkaKeys = [
    ConfigurationKey(
      path: kafkaProperties, kind: .map, defaultText: nil,
      help: "librdkafka's properties; bootstrap.servers is needed. KEY_file reads the value from a file.",
      isRequired: true, isSecret: true),
    ConfigurationKey(
      path: "kafka.missing_topic", kind: .choice(KafkaSettings.MissingTopic.allCases.map(\.rawValue)),
      defaultText: "hold",
      help: "What to do when a topic does not exist: hold waits for it, refuse stops."),
    ConfigurationKey(
      path: "kafka.allowed_topics", kind: .texts, defaultText: nil,
      help:
        "The topics that events may go to: a list of names, in which * stands for any characters. Without it: all."
    ),
  ]

  private static let outboxKeys = [
    ConfigurationKey(
      path: outboxes, kind: .list, defaultText: nil,
      help: "The outbox tables. Without it: one, public.outbox, with the defaults below."),
    ConfigurationKey(
      path: "outboxes[].table", kind: .table, defaultText: "public.outbox",
      help: "schema.table; double quotes around a name keep its case.", isRequired: true),
    ConfigurationKey(
      path: "outboxes[].source", kind: .template, defaultText: "/{database}/{schema}/{table}",
      help: "The event's source: a template over columns, {database}, {schema} and {table}."),
    ConfigurationKey(
      path: "outboxes[].topic", kind: .template, defaultText: "outbox.event.{aggregatetype}",
      help: "The topic: a template over columns and attributes."),
    ConfigurationKey(
      path: "outboxes[].key", kind: .templateOrNone, defaultText: "{aggregateid}",
      help: "The record's key, which decides the partition and so the order; none for null keys."),
    ConfigurationKey(
      path: "outboxes[].content_mode", kind: .choice(OutboxMapping.ContentMode.allCases.map(\.rawValue)),
      defaultText: "binary",
      help: "CloudEvents in binary mode (headers) or structured (a JSON envelope)."),
    ConfigurationKey(
      path: "outboxes[].datacontenttype", kind: .mediaType, defaultText: nil,
      help: "A fixed media type of the payload. Without it: by column, else by the payload's type."),
    ConfigurationKey(
      path: "outboxes[].dataschema", kind: .template, defaultText: nil,
      help: "The URI of the payload's schema: a template."),
    ConfigurationKey(
      path: "outboxes[].extensions", kind: .map, defaultText: nil,
      help: "Extension attributes: NAME: COLUMN. Names are [a-z0-9]+."),
    ConfigurationKey(
      path: "outboxes[].partitionkey", kind: .boolean, defaultText: "false",
      help: "Adds the attribute partitionkey with the record's key."),
    ConfigurationKey(
      path: "outboxes[].on_rejection", kind: .choice(OutboxMapping.RejectionPolicy.allCases.map(\.rawValue)),
      defaultText: "halt",
      help: "What to do with an event that can never be sent: halt stops and names the row."),
  ]

  private static let columnKeys = [
    ("id", "The event's id."),
    ("type", "The event's type."),
    ("payload", "The event's data: jsonb, json, text, bytea or xml."),
    ("subject", "The aggregate's id: the event's subject, and the key's default."),
    ("aggregatetype", "The aggregate's type, which the default topic names."),
    ("time", "The event's time; none for the commit's time, as without one."),
    (
      "headers",
      "A json or jsonb object whose keys become extension attributes; none for a column that is not read."
    ),
    ("datacontenttype", "The payload's media type."),
  ].map { name, help in
    let tried = OutboxMapping.Columns.defaults.first { $0.role == name }?.names ?? []
    let rule = tried.isEmpty ? "" : " Without it: " + tried.joined(separator: " or ") + "."
    return ConfigurationKey(
      path: "outboxes[].columns.\(name)", kind: .name, defaultText: nil, help: "Column. " + help + rule)
  }

  private static let zoneKeys = [
    ConfigurationKey(
      path: "outboxes[].columns.time_zone", kind: .timeZone, defaultText: nil,
      help: "The zone in which columns of type timestamp, without time zone, are written: Europe/Berlin. "
        + "Without it: UTC, with a warning.")
  ]

  private static let processKeys = [
    ConfigurationKey(
      path: "relay.drain_timeout", kind: .duration, defaultText: "25s",
      help: "How long a stop waits for Kafka's acknowledgements."),
    ConfigurationKey(
      path: "relay.skip_delivered", kind: .boolean, defaultText: "true",
      help: "After an unclean stop, do not send events again that the ends of the topics contain."),
    ConfigurationKey(
      path: "relay.check_origin", kind: .boolean, defaultText: "true",
      help: "Halt where a topic shows that another server publishes with the same source, as on a copy."),
    ConfigurationKey(
      path: "relay.adaptive", kind: .choice(["on", "off"]), defaultText: "on",
      help:
        "Gathering, lingering, window and receive buffer follow the load; off: they stay as libraries and system have "
        + "them."),
    ConfigurationKey(
      path: "admin.listen", kind: .address, defaultText: "127.0.0.1:9464",
      help: "Where /metrics, /livez, /readyz and /status answer: host:port, or off. Port 0: any free one."),
    ConfigurationKey(
      path: "admin.hosts", kind: .texts, defaultText: nil,
      help:
        "The names of this host that requests may use (HTTP's Host). Without it: loopback names where admin.listen is "
        + "a loopback address, else any."),
    ConfigurationKey(
      path: "log.level", kind: .choice(Log.Level.allCases.map(\.name)), defaultText: "info",
      help: "The least level that is logged."),
    ConfigurationKey(
      path: "log.format", kind: .choice(Log.Format.allCases.map(\.rawValue)), defaultText: "text",
      help: "The form of a log line. Lines go to standard error."),
  ]
}

extension ConfigurationKey {
  /// The names that may stand directly in a section: in `postgres`, in `outboxes[]`, in the file ("").
  static func names(in section: String) -> [String] {
    let prefix = section.isEmpty ? "" : section + "."
    var names: [String] = []
    for key in all where key.path.hasPrefix(prefix) {
      let rest = key.path.dropFirst(prefix.count)
      let name = String(rest.prefix { $0 != "." && $0 != "[" })
      if !names.contains(name) { names.append(name) }
    }
    return names
  }

  static func isSection(_ path: String) -> Bool {
    all.contains { $0.path.hasPrefix(path + ".") }
  }
}
