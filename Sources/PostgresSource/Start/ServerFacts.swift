// Owns: what is known of a server before the stream starts, as plain values.
// Must not know: how it was read, and what follows from it.
public import RelayCore

/// A place in the WAL of one particular history of one particular cluster.
public struct Checkpoint: Equatable, Sendable {
  public var lsn: LSN
  public var systemIdentifier: UInt64
  public var timeline: UInt32

  public init(lsn: LSN, systemIdentifier: UInt64, timeline: UInt32) {
    self.lsn = lsn
    self.systemIdentifier = systemIdentifier
    self.timeline = timeline
  }
}

/// Everything that decides whether, and from where, the slot may be streamed.
public struct ServerFacts: Equatable, Sendable {
  /// As `server_version_num` has it: 150020 is 15.20.
  public var serverVersion: Int
  public var systemIdentifier: UInt64
  public var timeline: UInt32
  /// Where the connection led to, `host:port`, for messages.
  public var reached = ""
  /// How the connection is protected. Nil: not read.
  public var transport: PostgresTransport?
  /// The end of the WAL that is flushed (on a standby: replayed), by IDENTIFY_SYSTEM.
  public var walEnd: LSN
  public var database: String
  public var walLevel: String
  public var isInRecovery: Bool
  /// Milliseconds; 0 is "off".
  public var walSenderTimeout: Int
  /// `server_encoding`.
  public var encoding = "UTF8"
  /// Seconds after which the server invalidates a slot that nobody streams from; 0 is never (always, before 18).
  public var idleSlotTimeout = 0
  /// Something between outboxd and the server answers in its place: a pooler or proxy.
  public var isPooled = false
  /// Nil: there is no slot of that name.
  public var slot: SlotFacts?
  /// Nil: there is no publication of that name.
  public var publication: PublicationFacts?
  /// The outbox tables that exist.
  public var tables: [TableFacts]
  public var journal: JournalFacts
  /// Nil: the journal is switched off, or this was not read.
  public var journalTrust: JournalTrust?
  /// Where the earlier timelines ended. Nil: not asked for, or not available.
  public var timelineHistory: [TimelineSwitch]?
  /// The TimeZone that sessions of the role have by themselves.
  public var timeZone: String?
  /// Nil: not read.
  public var role: RoleFacts?

  /// A place in this server's history.
  func checkpoint(at lsn: LSN) -> Checkpoint {
    Checkpoint(lsn: lsn, systemIdentifier: systemIdentifier, timeline: timeline)
  }

  public init(
    serverVersion: Int, systemIdentifier: UInt64, timeline: UInt32, walEnd: LSN, database: String,
    walLevel: String = "logical", isInRecovery: Bool = false, walSenderTimeout: Int = 60_000,
    slot: SlotFacts? = nil, publication: PublicationFacts? = nil, tables: [TableFacts] = [],
    journal: JournalFacts = .off, timelineHistory: [TimelineSwitch]? = nil
  ) {
    self.serverVersion = serverVersion
    self.systemIdentifier = systemIdentifier
    self.timeline = timeline
    self.walEnd = walEnd
    self.database = database
    self.walLevel = walLevel
    self.isInRecovery = isInRecovery
    self.walSenderTimeout = walSenderTimeout
    self.slot = slot
    self.publication = publication
    self.tables = tables
    self.journal = journal
    self.timelineHistory = timelineHistory
  }

  public var server: ServerIdentity {
    ServerIdentity(
      systemIdentifier: systemIdentifier, timeline: isInRecovery ? nil : timeline,
      database: database)
  }

  public func table(_ schema: String, _ name: String) -> TableFacts? {
    tables.first { $0.schema == schema && $0.name == name }
  }
}

/// The role that outboxd connects as.
public struct RoleFacts: Equatable, Sendable {
  public var name = ""
  /// What it may do and no command of outboxd needs: `SUPERUSER`, `CREATE on the database` and so on.
  public var excess: [String] = []

  public init() {}
}

/// A row of `pg_replication_slots`.
public struct SlotFacts: Equatable, Sendable {
  public var plugin: String?
  public var slotType = "logical"
  public var database: String?
  public var isTemporary = false
  /// Transactions come at PREPARE TRANSACTION.
  public var isTwoPhase = false
  /// `failover`: it is synchronized to standbys (from 17 on).
  public var isFailover = false
  /// `synced`: it came from a primary, to a server that is or was a standby.
  public var isSynchronized = false
  public var isActive = false
  public var activePID: Int?
  public var restartLSN: LSN?
  public var confirmedFlushLSN: LSN?
  /// `reserved`, `extended`, `unreserved` or `lost`.
  public var walStatus: String?
  /// Bytes; nil where nothing limits the WAL that the slot may hold.
  public var safeWALSize: Int64?
  /// From 17 on (16: `conflicting`).
  public var invalidationReason: String?
  /// What keeps a slot that is being created from being there.
  public var waitsFor: OpenTransaction?

  /// A process makes it, and waits until older transactions have ended.
  public var isBeingCreated: Bool { isActive && slotType == "logical" && confirmedFlushLSN == nil }

  public init(plugin: String? = "pgoutput", database: String? = nil, confirmedFlushLSN: LSN? = nil) {
    self.plugin = plugin
    self.database = database
    self.confirmedFlushLSN = confirmedFlushLSN
  }
}

public struct PublicationFacts: Equatable, Sendable {
  public struct Table: Equatable, Sendable {
    public var oid: UInt32 = 0
    public var schema: String
    public var name: String
    public var hasRowFilter: Bool
    public var hasColumnList: Bool
    /// The columns that are published; nil where that is all of them.
    public var columns: [String]?

    public init(schema: String, name: String, hasRowFilter: Bool = false, hasColumnList: Bool = false) {
      self.schema = schema
      self.name = name
      self.hasRowFilter = hasRowFilter
      self.hasColumnList = hasColumnList
    }

    public var qualifiedName: String { QualifiedName.text(schema, name) }
    var origin: Origin { .table(schema: schema, name: name) }
  }

  public var oid: UInt32
  public var owner = ""
  /// Its owner could do to the tables, or to the relay, what he could do by the publication.
  public var isOwnerTrusted = true
  /// Changes whenever the publication itself is altered (its flags, its owner).
  public var version = ""
  /// Each table that it names, and each that belongs to a schema which it names, by OID.
  public var members: [UInt32: PublicationRecord.Member] = [:]
  /// The names that tables of the journal's record have now which are no members any more.
  public var others: [UInt32: TableName] = [:]
  /// The transaction that gave a table of `members` or `others` its name: it created, renamed or moved it.
  public var nameTransactions: [UInt32: String] = [:]
  /// The transaction that created a table of `members`.
  public var creations: [UInt32: String] = [:]
  /// `pg_relation_filenode` of a table of `members`.
  public var fileNodes: [UInt32: UInt32] = [:]
  /// Everything that led to this had been committed when the WAL had got here.
  public var seenAt = LSN.zero
  public var publishesInserts = true
  public var publishesUpdates = false
  public var publishesDeletes = false
  public var publishesTruncates = false
  /// `publish_via_partition_root`.
  public var viaRoot = true
  public var isForAllTables = false
  /// Stored generated columns too (`publish_generated_columns`, from 18 on).
  public var publishesGenerated = false
  /// The server knows `publish_generated_columns`.
  public var canPublishGenerated = false
  /// What it publishes, schemas and partitions resolved, as `pg_publication_tables` has it.
  public var tables: [Table]

  public init(oid: UInt32 = 0, tables: [Table]) {
    self.oid = oid
    self.tables = tables
  }
}

public struct TableFacts: Equatable, Sendable {
  public struct Column: Equatable, Sendable {
    public var name: String
    /// As `format_type` has it.
    public var type: String
    /// Of the base type, where it is a domain.
    public var typeOID: UInt32 = 0
    public var typeName = ""
    public var isNullable: Bool
    /// As `attgenerated` has it: `s` stored, `v` virtual, empty for a column that is not generated.
    public var generated = ""
  }

  public var oid: UInt32 = 0
  public var schema: String
  public var name: String
  /// `r` for a table, `p` for a partitioned one; views, foreign tables and others cannot be published.
  public var kind = "r"
  /// `p` permanent, `u` unlogged, `t` temporary.
  public var persistence = "p"
  public var columns: [Column] = []
  /// The role may read it, which streaming does not need, but replay and verification do.
  public var isReadable = true
  /// Policies hide rows from the role.
  public var hasRowSecurity = false
  /// UPDATE and DELETE can name the row, so that a publication may carry them.
  public var hasReplicaIdentity = true
  /// Leaf partitions whose rows are not in the WAL: unlogged ones.
  public var unloggedPartitions: [String] = []
  /// Of another, partitioned table.
  public var isPartition = false

  public init(schema: String, name: String) {
    self.schema = schema
    self.name = name
  }

  var origin: Origin { .table(schema: schema, name: name) }
}

/// The row of `outboxd.checkpoint` for a slot.
public struct JournalRow: Equatable, Sendable {
  public var checkpoint: Checkpoint
  /// When it was written, as the server prints it.
  public var updatedAt: String?
  /// The row itself is gone: this is the newest of `outboxd.checkpoint_history`.
  public var isFromHistory = false
  /// A `pg_snapshot`. Every row of an outbox that is visible in it and was committed after the slot's start is
  /// published. It lists no subtransactions: only what lies below its `xmin` is visible for certain.
  public var snapshot: String?
  /// The snapshot was taken before the WAL had got here.
  public var snapshotLSN: LSN?
  /// The publication as it was seen last.
  public var publication: PublicationRecord?
  /// Where the slot began.
  public var startLSN: LSN?
  /// A `pg_snapshot`: the rows visible in it were committed before `startLSN`, and no others. Exported with the
  /// slot, so that it lists subtransactions too. Nil: not known.
  public var startSnapshot: String?

  public init(_ checkpoint: Checkpoint, updatedAt: String? = nil) {
    self.checkpoint = checkpoint
    self.updatedAt = updatedAt
  }
}

/// Who could do what with the schema outboxd.
public struct JournalTrust: Equatable, Sendable {
  /// Why it is no journal to be trusted. Nil: it is one, or there is none.
  public var fault: String?
  public var remedy: String?
  /// Roles that could move a checkpoint, and have no right to it.
  public var writers: [String] = []
}

public enum JournalFacts: Equatable, Sendable {
  /// Switched off by configuration.
  case off
  /// There is no table `outboxd.checkpoint`.
  case absent
  /// It is there and of no use, for this reason. Without a remedy: what init prints corrects it.
  case unusable(String, remedy: String? = nil)
  /// It is there, and has never had a row for the slot.
  case empty
  /// It is there, and has no row for the slot, though outboxd has used that slot.
  case forgotten
  case row(JournalRow)

  public var row: JournalRow? { if case .row(let row) = self { row } else { nil } }

  /// True where checkpoints are written to it.
  public var isInUse: Bool {
    switch self {
    case .empty, .forgotten, .row: true
    case .off, .absent, .unusable: false
    }
  }
}

/// A line of a timeline's history file.
public struct TimelineSwitch: Equatable, Sendable {
  public var timeline: UInt32
  /// The timeline ended here, and its successor began.
  public var switchLSN: LSN

  public init(timeline: UInt32, switchLSN: LSN) {
    self.timeline = timeline
    self.switchLSN = switchLSN
  }

  /// Reads a history file: `1<TAB>0/A5009740<TAB>reason`. Comments and lines of another form are left out.
  static func parse(_ file: String) -> [TimelineSwitch] {
    file.split(whereSeparator: \.isNewline).compactMap { line in
      let fields = line.split(whereSeparator: { $0 == "\t" || $0 == " " })
      guard fields.count >= 2, let timeline = UInt32(fields[0]), let lsn = LSN(String(fields[1])) else {
        return nil
      }
      return TimelineSwitch(timeline: timeline, switchLSN: lsn)
    }
  }
}
