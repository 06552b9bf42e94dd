// Owns: which type a column has, by the oid and by the Type messages of the stream.
// Must not know: how a value's bytes are laid out.
import RelayCore

extension ColumnType {
  /// The type of a built-in oid (`pg_type.dat`), nil where the oid is not one of these.
  static func builtIn(oid: UInt32) -> ColumnType? {
    switch oid {
    case 16: .bool
    case 17: .bytea
    case 20: .int8
    case 21: .int2
    case 23: .int4
    case 19, 25, 1043: .text
    case 1042: .bpchar
    case 114: .json
    case 142: .xml
    case 700: .float4
    case 701: .float8
    case 1082: .date
    case 1114: .timestamp
    case 1184: .timestamptz
    case 1700: .numeric
    case 2950: .uuid
    case 3802: .jsonb
    default: otherNames[oid].map { .other(oid: oid, name: $0) }
    }
  }

  /// The base type of a domain, by its name in `pg_catalog`.
  static func builtIn(name: String, oid: UInt32) -> ColumnType {
    switch name {
    case "bool": .bool
    case "bytea": .bytea
    case "int8": .int8
    case "int2": .int2
    case "int4": .int4
    case "name", "text", "varchar": .text
    case "bpchar": .bpchar
    case "json": .json
    case "xml": .xml
    case "float4": .float4
    case "float8": .float8
    case "date": .date
    case "timestamp": .timestamp
    case "timestamptz": .timestamptz
    case "numeric": .numeric
    case "uuid": .uuid
    case "jsonb": .jsonb
    default: .other(oid: oid, name: name)
    }
  }

  /// Names for messages about columns that no event can be made of.
  private static let otherNames: [UInt32: String] = [
    18: "char", 26: "oid", 28: "xid", 600: "point", 650: "cidr", 774: "macaddr8", 790: "money",
    829: "macaddr", 869: "inet", 1000: "_bool", 1005: "_int2", 1007: "_int4", 1009: "_text",
    1015: "_varchar", 1016: "_int8", 1083: "time", 1186: "interval", 1266: "timetz", 1560: "bit",
    1562: "varbit", 2951: "_uuid", 3220: "pg_lsn", 3614: "tsvector", 3807: "_jsonb", 5069: "xid8",
  ]
}
