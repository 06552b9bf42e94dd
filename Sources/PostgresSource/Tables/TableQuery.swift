// Owns: the SELECT that reads a table's rows as the stream would have sent them: columns, which rows, in which order.
// Must not know: connections, cursors, what an event is, and why these rows (`TableProof.swift`).
import RelayCore

/// What the catalog says about a table, as far as reading its rows goes.
struct TableShape: Equatable {
  struct Column: Equatable {
    var name: String
    var type: ColumnType
    /// Its type has a binary form. Those without come as text, as in pgoutput.
    var hasBinaryForm: Bool
  }

  /// The name that it has now.
  var schema: String
  var table: String
  var oid: UInt32
  var isPartitioned: Bool
  /// Partitions that hold its rows.
  var partitions: [UInt32] = []
  /// The outbox that the rows belong to.
  var outbox: OutboxMapping?
  /// The name that the rows were published under, where that is another one.
  var formerName: TableName?
  /// Those of the publication, in the order of the table.
  var columns: [Column]
  /// A column that a sequence fills, one value at a time.
  var serial: String?
  /// No two rows have one value of `serial`: an index sees to it.
  var isSerialUnique = false
  var time: Time?
  /// Changes when the rows have moved, old commit times were forgotten, or another column gives the order: places in
  /// the order are then void.
  var storage: String
  /// `pg_relation_filenode` of what holds the rows: the table or its partitions. A snapshot from before a rewriting ALTER TABLE or TRUNCATE sees none of
  /// them (manual 13.6, Caveats).
  var fileNodes: [UInt32: UInt32] = [:]
  /// By the last ANALYZE; negative where there was none.
  var estimatedRows: Int64
  /// Those that identify a row to the stream too. Empty: they are not all published.
  var keyColumns: [String] = []
  /// In place of the range's.
  var start: SlotStart?

  /// The column that the event's time comes from.
  struct Time: Equatable {
    var column: String
    var isZoned: Bool
    /// The declared zone of one that has none itself.
    var zone: String?

    /// True where its values are moments.
    var isMoment: Bool { isZoned || zone != nil }

    var expression: String {
      let column = "o.\(SQLText.identifier(column))"
      guard !isZoned, let zone else { return column }
      // At the ends of what a timestamp can hold the zone would move it beyond.
      return
        "(CASE WHEN \(column) > '294276-01-01' THEN 'infinity' WHEN \(column) < '4713-01-01 BC' THEN '-infinity' "
        + "ELSE \(column) AT TIME ZONE \(SQLText.literal(zone)) END)"
    }
  }

  static func == (left: Self, right: Self) -> Bool {
    left.oid == right.oid && left.columns == right.columns && left.storage == right.storage
  }

  /// Stands for the outbox in a `RowKey`.
  var outboxHash: Int {
    (outbox.map { TableName($0.schema, $0.table) } ?? TableName(schema, table)).hashValue
  }

  /// Where rows begin to be the stream's. Nil: of no interest.
  func streamStart(_ range: TableRange) -> LSN? { start?.lsn ?? range.streamStart }

  /// For messages.
  var qualifiedName: String { QualifiedName.text(schema, table) }

  var relation: Relation {
    var relation = Relation(
      id: oid, schema: formerName?.schema ?? schema, table: formerName?.name ?? table,
      columns: columns.map { Relation.Column(name: $0.name, type: $0.type) })
    relation.outbox = outbox
    return relation
  }

  /// Whether the table that the name stands for when its rows are read is this one still, with all its partitions that
  /// exist, and in the same files: `t` or `f`. The lock that reading takes keeps it so.
  var check: String {
    let partitions = partitions.map(String.init).joined(separator: ",")
    let leaves = fileNodes.keys.sorted()
    let nodes = leaves.map { String(fileNodes[$0] ?? 0) }.joined(separator: ",")
    return
      "SELECT to_regclass(\(SQLText.literal(SQLText.qualified(schema, table))))::oid IS NOT DISTINCT FROM \(oid) "
      + "AND NOT EXISTS (SELECT FROM unnest('{\(partitions)}'::oid[]) AS p (id) WHERE pg_relation_filenode(id) IS NOT "
      + "NULL AND id NOT IN (SELECT relid FROM pg_partition_tree(\(oid)))) AND NOT EXISTS (SELECT FROM unnest("
      + "'{\(leaves.map(String.init).joined(separator: ","))}'::oid[], '{\(nodes)}'::oid[]) AS f (id, node) "
      + "WHERE pg_relation_filenode(id) <> node) AS same"
  }
}

/// Where a row stands in the order of its table. Rows of one place have no order that lasts: `cmin` is gone once
/// somebody has begun to delete the row, and `ctid` is another after VACUUM FULL.
struct TablePlace: Equatable {
  /// Of the row's transaction, where Postgres tracks it.
  var commitTime: PostgresMicroseconds?
  /// The serial's value, the time column's, or the full transaction id.
  var second: Int64?

  /// Both of one order.
  func isAfter(_ other: TablePlace) -> Bool {
    if let time = commitTime, let earlier = other.commitTime, time != earlier { return time > earlier }
    return (second ?? .min) > (other.second ?? .min)
  }

  /// `3 HORIZON STORAGE TIME SECOND schema.table`; `-` for what there is not.
  /// - Parameter horizon: the oldest transaction that ran when the read began: what it did not see is of this one or
  ///   later ones.
  func text(table: String, storage: String, horizon: UInt64) -> String {
    func word(_ number: Int64?) -> String { number.map(String.init) ?? "-" }
    return "3 \(horizon) \(storage) \(word(commitTime)) \(word(second)) \(table)"
  }

  struct Parsed: Equatable {
    var table: String
    var storage: String
    var horizon: UInt64
    var place: TablePlace
  }

  static func parse(_ text: String) -> Parsed? {
    let words = text.split(separator: " ", maxSplits: 5, omittingEmptySubsequences: false).map(String.init)
    guard words.count == 6, words[0] == "3", let horizon = UInt64(words[1]),
      words[3] == "-" || Int64(words[3]) != nil, words[4] == "-" || Int64(words[4]) != nil
    else { return nil }
    return Parsed(
      table: words[5], storage: words[2], horizon: horizon,
      place: TablePlace(commitTime: Int64(words[3]), second: Int64(words[4])))
  }
}

/// The statement for one table.
///
/// The order is that of the commits as far as a table can tell, and holds for each key where its writers wait for
/// each other (they lock the aggregate): the commit time, where `track_commit_timestamp` is on; then the serial or
/// identity column, whose values are taken while the lock is held; else the time column; else the transaction id,
/// which is taken at a transaction's first write. Rows that these do not tell apart come in the order of their commands,
/// as far as the table still shows it. A row that was updated stands where the update does, except by serial or time.
struct TableQuery {
  let shape: TableShape
  let range: TableRange
  /// `track_commit_timestamp`.
  let tracksCommitTimes: Bool
  /// The full transaction id after the newest that is visible: gives the 32 bits of `xmin` their upper half.
  let nextTransaction: UInt64

  /// Columns after the table's own: commit time (if tracked), second key, and where the stream is of interest, whether the
  /// row belongs to the range for certain.
  func select(after start: TablePlace.Parsed?) -> String {
    var columns = shape.columns.map(Self.value)
    columns += keys
    if hasProof { columns.append(certainty) }
    var conditions = self.conditions
    if let start { conditions.append(beyond(start.place, horizon: start.horizon)) }
    let filter = conditions.isEmpty ? "" : " WHERE " + conditions.map { "(\($0))" }.joined(separator: " AND ")
    return "SELECT \(columns.joined(separator: ", ")) FROM \(Self.relation(shape)) o\(filter) ORDER BY "
      + (keys + ["o.cmin::text::bigint", "o.tableoid", "o.ctid"]).joined(separator: ", ")
  }

  /// A column as the stream has it: binary, or the text of the type's output function, which `concat` calls. A cast would
  /// be the type's owner's to make.
  static func value(_ column: TableShape.Column) -> String {
    let name = "o.\(SQLText.identifier(column.name))"
    return column.hasBinaryForm ? name : "CASE WHEN NOT \(name) IS NULL THEN concat(\(name)) END"
  }

  static func relation(_ shape: TableShape) -> String {
    (shape.isPartitioned ? "" : "ONLY ") + SQLText.qualified(shape.schema, shape.table)
  }

  /// A row whose column is NULL comes first.
  private var keys: [String] {
    var keys: [String] = []
    if tracksCommitTimes { keys.append("coalesce(pg_xact_commit_timestamp(o.xmin), '-infinity')") }
    if let serial = shape.serial {
      keys.append("coalesce(o.\(SQLText.identifier(serial))::bigint, \(Int64.min + 1))")
    } else if let time = shape.time {
      keys.append("coalesce(\(time.expression), '-infinity')")
    } else if !tracksCommitTimes {
      keys.append(Self.fullTransaction("o.xmin::text::bigint", next: nextTransaction))
    }
    return keys
  }

  /// The order in words, to follow "order".
  var order: String {
    var keys = tracksCommitTimes ? ["commit time"] : []
    if let column = shape.serial ?? shape.time?.column {
      keys.append("column \(SQLText.identifier(column))")
    } else if !tracksCommitTimes {
      keys.append("transaction id")
    }
    return "by " + keys.joined(separator: ", then by ")
  }

  /// Whether there is a column that tells if a row belongs to the range for certain.
  var hasProof: Bool { shape.streamStart(range) != nil }

  var hasSecondKey: Bool { shape.serial != nil || shape.time != nil || !tracksCommitTimes }

  /// The full id behind 32 bits that lie within four billion transactions before `next`. For a row that is older it
  /// gives one that is too high: such a row counts as newer than it is.
  static func fullTransaction(_ id: String, next: UInt64) -> String {
    let low = next & 0xFFFF_FFFF
    let base = next - low
    let former = base >= 1 << 32 ? base - 1 << 32 : 0
    return "(CASE WHEN \(id) < \(low) THEN \(base) ELSE \(former) END + \(id))"
  }

  private var id: String { "o.xmin::text::bigint" }
  private var full: String { Self.fullTransaction(id, next: nextTransaction) }

  private var certainty: String {
    var list: [String] = []
    if let end = range.endTransaction { list.append("\(full) < \(end)") }
    if let snapshot = shape.start == nil ? range.visibleIn : shape.start?.snapshot {
      list.append("pg_visible_in_snapshot(\(full)::text::xid8, \(SQLText.literal(snapshot))::pg_snapshot)")
    }
    // Ids below 3 mark rows that are visible to everybody.
    return list.isEmpty ? "false" : "(\(id) < 3 OR (\(list.joined(separator: " AND "))))"
  }

  private var conditions: [String] {
    var list: [String] = []
    if let lowest = range.lowestTransaction { list.append("\(id) >= 3 AND \(full) >= \(lowest)") }
    if let since = range.committedSince, tracksCommitTimes { list.append(committed(since)) }
    if let since = range.since {
      if let time = shape.time {
        let column = time.expression
        list.append("\(column) >= \(Self.moment(since, isZoned: time.isMoment)) OR \(column) IS NULL")
      } else if tracksCommitTimes {
        list.append(committed(since))
      }
    }
    return list
  }

  private func committed(_ since: PostgresMicroseconds) -> String {
    "coalesce(pg_xact_commit_timestamp(o.xmin), 'infinity') >= \(Self.moment(since, isZoned: true))"
  }

  /// The rows at a place and after it, and those that were written since it was reached: they may stand before it now.
  /// Rows at the place may have been sent, or not.
  private func beyond(_ place: TablePlace, horizon: UInt64) -> String {
    var values: [String] = []
    if tracksCommitTimes { values.append(Self.moment(place.commitTime ?? .min, isZoned: true)) }
    if let second = place.second, hasSecondKey {
      if shape.serial == nil, let time = shape.time {
        values.append(Self.moment(second, isZoned: time.isMoment))
      } else {
        values.append("(\(second))::bigint")
      }
    }
    let comparison = shape.serial != nil && shape.isSerialUnique ? ">" : ">="
    // A commit time that was forgotten since has moved the row to the front.
    let forgotten = tracksCommitTimes ? "pg_xact_commit_timestamp(o.xmin) IS NULL OR " : ""
    return
      "(\(id) >= 3 AND \(full) >= \(horizon)) OR \(forgotten)ROW(\(keys.joined(separator: ", "))) \(comparison) "
      + "ROW(\(values.joined(separator: ", ")))"
  }

  private static func moment(_ time: PostgresMicroseconds, isZoned: Bool) -> String {
    let type = isZoned ? "timestamptz" : "timestamp"
    switch time {
    case .min: return "'-infinity'::\(type)"
    case .max: return "'infinity'::\(type)"
    default:
      // Not a product: its factor would be a float8, which is exact only up to the year 2285.
      return "(\(type) '2000-01-01 00:00:00\(isZoned ? "+00" : "")' + interval '\(time) microseconds')"
    }
  }
}
