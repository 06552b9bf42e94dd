// Owns: what the journal remembers of a publication: its tables by OID, with the names that they had. Pure.
// Must not know: where it is kept, and what follows from a difference.
public import RelayCore

/// A table's name, as it is at one moment. The WAL knows the table by its OID.
public struct TableName: Hashable, Sendable {
  public var schema: String
  public var name: String

  public init(_ schema: String, _ name: String) {
    self.schema = schema
    self.name = name
  }

  /// `schema.name`, as messages and the configuration write it.
  public var qualified: String { QualifiedName.text(schema, name) }
  /// What an outbox of that name is mapped from.
  var origin: Origin { .table(schema: schema, name: name) }
  /// Quoted, for SQL.
  var sql: String { SQLText.qualified(schema, name) }
}

/// What a publication carried when it was last seen whole.
public struct PublicationRecord: Equatable, Sendable {
  /// A table that the publication names, or that belongs to a schema which it names.
  public struct Member: Equatable, Sendable {
    /// By oid and transaction of the entry in the catalog: one that was taken out and put back has another.
    public var membership: String
    /// Nil in a record of an earlier version.
    public var name: TableName?
    /// Of a partitioned table: the partitions that hold rows.
    public var partitions: [UInt32] = []
    /// Nil in a record of an earlier version: it is the slot's then.
    public var start: Start?

    public init(membership: String, name: TableName? = nil, partitions: [UInt32] = []) {
      self.membership = membership
      self.name = name
      self.partitions = partitions
    }
  }

  /// Where a table joined the publication.
  public struct Start: Equatable, Sendable {
    /// What was committed before it is not in the stream.
    public var lsn: LSN
    /// What is committed after it is in the stream. The same as `lsn` where the table was a member before the slot.
    public var by: LSN
    /// A `pg_snapshot`: rows that are visible in it are not in the stream. Nil: that of the slot's start, where `lsn` is
    /// the slot's start, else not known.
    public var snapshot: String?
    /// `pg_relation_filenode`; 0 for a partitioned table. With another one a rewriting ALTER TABLE, VACUUM FULL or
    /// CLUSTER has moved the rows.
    public var fileNode: UInt32

    public init(lsn: LSN, by: LSN, snapshot: String? = nil, fileNode: UInt32 = 0) {
      self.lsn = lsn
      self.by = by
      self.snapshot = snapshot
      self.fileNode = fileNode
    }
  }

  /// A range of the WAL from which rows may be missing in every stream, since the publication did not carry them.
  public struct Gap: Equatable, Sendable {
    public var from: LSN
    public var through: LSN
  }

  /// A table, or a partition, whose rows the publication carries no more. Rows from before may still be undelivered.
  public struct Former: Equatable, Sendable {
    /// Of the outbox that its rows belong to.
    public var name: TableName
    /// It was gone when the WAL had got here: what it carried lies before.
    public var goneBy: LSN
  }

  public var oid: UInt32
  /// Changes whenever the publication itself is altered (its flags, its owner).
  public var version: String
  public var members: [UInt32: Member] = [:]
  public var former: [UInt32: Former] = [:]
  /// Those that were recovered or given up, the oldest first.
  public var gaps: [Gap] = []

  /// More are of no use: the replay window has passed them long ago.
  static let gapLimit = 100

  public init(oid: UInt32, version: String = "") {
    self.oid = oid
    self.version = version
  }

  /// The names of the outbox that the table with this OID is or was, the newest first.
  func names(of relation: UInt32) -> [TableName] {
    [members[relation]?.name, former[relation]?.name].compactMap(\.self)
  }
}

// As text: `oid version`, then for each member `oid:membership:schema.name:partition,…:start`, for each former one
// `-oid:LSN:schema.name`, and for each gap `!LSN-LSN`. A start is `LSN-LSN+file node+snapshot`, the snapshot with `~` for
// each `:`. Versions before wrote members without start, or as `oid:membership`.
extension PublicationRecord {
  /// Nil where the text is no record.
  init?(_ text: String) {
    let words = text.split(separator: " ")
    guard words.count >= 2, let oid = UInt32(words[0]) else { return nil }
    self.init(oid: oid, version: String(words[1]))
    for word in words.dropFirst(2) {
      guard read(word) else { return nil }
    }
  }

  /// False where the word is none of a record.
  private mutating func read(_ word: Substring) -> Bool {
    if word.hasPrefix("!") {
      guard let (from, through) = Self.range(word.dropFirst()) else { return false }
      gaps.append(Gap(from: from, through: through))
      return true
    }
    let parts = word.drop { $0 == "-" }.split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count >= 2, let relation = UInt32(parts[0]) else { return false }
    let name = parts.count > 2 ? TableName(encoded: parts[2]) : nil
    if word.hasPrefix("-") {
      guard let name, let lsn = LSN(String(parts[1])) else { return false }
      former[relation] = Former(name: name, goneBy: lsn)
      return true
    }
    var member = Member(membership: String(parts[1]), name: name)
    if parts.count > 3 { member.partitions = parts[3].split(separator: ",").compactMap { UInt32($0) } }
    if parts.count > 4 { member.start = Start(encoded: parts[4]) }
    members[relation] = member
    return true
  }

  /// `LSN-LSN`
  fileprivate static func range(_ text: Substring) -> (LSN, LSN)? {
    let ends = text.split(separator: "-").map { LSN(String($0)) }
    guard ends.count == 2, let from = ends[0], let through = ends[1] else { return nil }
    return (from, through)
  }

  /// The same as long as nobody touched the publication or its tables' names and partitions.
  public var text: String {
    let members = members.sorted { $0.key < $1.key }.map { oid, member in
      var parts = ["\(oid)", member.membership]
      if let name = member.name {
        parts += [name.encoded, member.partitions.sorted().map(String.init).joined(separator: ",")]
        if let start = member.start { parts.append(start.encoded) }
        while parts.last == "" { parts.removeLast() }
      }
      return " " + parts.joined(separator: ":")
    }
    let former = former.sorted { $0.key < $1.key }.map {
      " -\($0.key):\($0.value.goneBy):\($0.value.name.encoded)"
    }
    let gaps = gaps.suffix(Self.gapLimit).map { " !\($0.from)-\($0.through)" }
    return "\(oid) \(version)" + members.joined() + former.joined() + gaps.joined()
  }
}

extension PublicationRecord.Start {
  fileprivate var encoded: String {
    "\(lsn)-\(by)+\(fileNode)+" + (snapshot ?? "").replacing(":", with: "~")
  }

  fileprivate init?(encoded text: Substring) {
    let parts = text.split(separator: "+", omittingEmptySubsequences: false)
    guard parts.count == 3, let (lsn, by) = PublicationRecord.range(parts[0]), let node = UInt32(parts[1])
    else { return nil }
    self.init(
      lsn: lsn, by: by, snapshot: parts[2].isEmpty ? nil : String(parts[2].replacing("~", with: ":")),
      fileNode: node)
  }
}

extension TableName {
  /// `schema.name` of letters, digits and `_`; every other byte as `%20`.
  var encoded: String { Self.encoded(schema) + "." + Self.encoded(name) }

  init?(encoded text: Substring) {
    let parts = text.split(separator: ".", omittingEmptySubsequences: false).map(Self.decoded)
    guard parts.count == 2, let schema = parts[0], let name = parts[1] else { return nil }
    self.init(schema, name)
  }

  private static func encoded(_ name: String) -> String {
    var text = ""
    for byte in name.utf8 {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"):
        text.unicodeScalars.append(Unicode.Scalar(byte))
      default: text += "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
      }
    }
    return text
  }

  private static func decoded(_ text: Substring) -> String? {
    var bytes: [UInt8] = []
    var rest = text.utf8
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      guard let value = UInt8(Substring(rest.prefix(2)), radix: 16), rest.count >= 2 else { return nil }
      rest = rest.dropFirst(2)
      bytes.append(value)
    }
    return String(validating: bytes, as: UTF8.self)
  }
}

extension PublicationFacts {
  /// What is to be remembered of it from now on.
  /// - Parameters:
  ///   - before: what was remembered until now.
  ///   - checkpoint: everything that lies before it is published.
  ///   - joined: the start of a table that was no member before; nil: it is not known, so that nothing is proven of
  ///     its rows.
  func record(
    after before: PublicationRecord?, passed checkpoint: LSN, joined: SlotStart? = nil
  ) -> PublicationRecord {
    var record = PublicationRecord(oid: oid, version: version)
    record.members = members
    for relation in members.keys where before != nil || joined != nil {
      var start = PublicationRecord.Start(
        lsn: joined?.lsn ?? .zero, by: before == nil ? joined?.lsn ?? .zero : seenAt,
        snapshot: joined?.snapshot)
      start.fileNode = fileNodes[relation] ?? 0
      // Nothing is known of a member of an earlier version's record but that it was one.
      record.members[relation]?.start = before?.members[relation].map(\.start) ?? start
    }
    guard let before else { return record }
    record.gaps = before.gaps
    let present = Set(members.keys).union(members.values.flatMap(\.partitions))
    for (relation, former) in before.former where former.goneBy > checkpoint && !present.contains(relation) {
      record.former[relation] = former
    }
    for (relation, member) in before.members {
      guard let name = member.name else { continue }
      for gone in [relation] + member.partitions where !present.contains(gone) {
        record.former[gone] = PublicationRecord.Former(name: name, goneBy: seenAt)
      }
    }
    return record
  }

  /// What is to be remembered of it with a slot that was created at `lsn`: its tables begin with the slot.
  func record(ofSlotAt lsn: LSN) -> PublicationRecord {
    record(after: nil, passed: lsn, joined: SlotStart(lsn: lsn, snapshot: nil))
  }
}
