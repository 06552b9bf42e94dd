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

    public init(membership: String, name: TableName? = nil, partitions: [UInt32] = []) {
      self.membership = membership
      self.name = name
      self.partitions = partitions
    }
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

  public init(oid: UInt32, version: String = "") {
    self.oid = oid
    self.version = version
  }

  /// The names of the outbox that the table with this OID is or was, the newest first.
  func names(of relation: UInt32) -> [TableName] {
    [members[relation]?.name, former[relation]?.name].compactMap(\.self)
  }
}

// As text: `oid version`, then for each member `oid:membership:schema.name:partition,…`, then for each former one
// `-oid:LSN:schema.name`. A version before wrote members as `oid:membership`.
extension PublicationRecord {
  /// Nil where the text is no record.
  init?(_ text: String) {
    let words = text.split(separator: " ")
    guard words.count >= 2, let oid = UInt32(words[0]) else { return nil }
    self.init(oid: oid, version: String(words[1]))
    for word in words.dropFirst(2) {
      let parts = word.drop { $0 == "-" }.split(separator: ":", omittingEmptySubsequences: false)
      guard parts.count >= 2, let relation = UInt32(parts[0]) else { return nil }
      let name = parts.count > 2 ? TableName(encoded: parts[2]) : nil
      if word.hasPrefix("-") {
        guard let name, let lsn = LSN(String(parts[1])) else { return nil }
        former[relation] = Former(name: name, goneBy: lsn)
      } else {
        let partitions = parts.count > 3 ? parts[3].split(separator: ",").compactMap { UInt32($0) } : []
        members[relation] = Member(membership: String(parts[1]), name: name, partitions: partitions)
      }
    }
  }

  /// The same as long as nobody touched the publication or its tables' names and partitions.
  public var text: String {
    let members = members.sorted { $0.key < $1.key }.map { oid, member in
      let partitions = member.partitions.sorted().map(String.init).joined(separator: ",")
      return " \(oid):\(member.membership)" + (member.name.map { ":\($0.encoded)" } ?? "")
        + (member.name == nil || partitions.isEmpty ? "" : ":\(partitions)")
    }
    let former = former.sorted { $0.key < $1.key }.map {
      " -\($0.key):\($0.value.goneBy):\($0.value.name.encoded)"
    }
    return "\(oid) \(version)" + members.joined() + former.joined()
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
  func record(after before: PublicationRecord?, passed checkpoint: LSN) -> PublicationRecord {
    var record = PublicationRecord(oid: oid, version: version)
    record.members = members
    guard let before else { return record }
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
}
