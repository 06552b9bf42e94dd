// Owns: random and extreme values of every type, whose texts must be those that a server prints; the same for times in
// zones.
import Foundation
import RelayTesting
import Testing

@testable import PostgresSource
@testable import RelayCore

private let ends = [PostgresServer.versions.first, PostgresServer.versions.last].compactMap(\.self)

/// A file of COPY in binary: https://www.postgresql.org/docs/current/sql-copy.html
private enum BinaryCopy {
  static let signature: [UInt8] = Array("PGCOPY\n".utf8) + [0xFF, 0x0D, 0x0A, 0, 0, 0, 0, 0, 0, 0, 0, 0]

  static func file(_ rows: [[[UInt8]]]) -> Data {
    var data = Data(signature)
    for row in rows {
      data.append(contentsOf: big(Int16(row.count)))
      for field in row {
        data.append(contentsOf: big(Int32(field.count)))
        data.append(contentsOf: field)
      }
    }
    data.append(contentsOf: big(Int16(-1)))
    return data
  }

  static func read(_ path: String) throws -> [[[UInt8]]] {
    let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
    var position = signature.count
    func number(_ size: Int) -> Int {
      defer { position += size }
      return bytes[position..<position + size].reduce(0) { $0 << 8 | Int($1) }
    }
    var rows: [[[UInt8]]] = []
    while true {
      let count = number(2)
      if count == 0xFFFF { return rows }
      var row: [[UInt8]] = []
      for _ in 0..<count {
        let length = number(4)
        row.append(Array(bytes[position..<position + length]))
        position += length
      }
      rows.append(row)
    }
  }
}

private func big<Number: FixedWidthInteger>(_ number: Number) -> [UInt8] {
  withUnsafeBytes(of: number.bigEndian, Array.init)
}

/// Bytes that the receive functions of the types accept.
private struct ValueMaker {
  var random: RelayTesting.SeededGenerator

  private mutating func chance(_ oneIn: Int) -> Bool { Int.random(in: 0..<oneIn, using: &random) == 0 }

  private mutating func double() -> Double {
    switch Int.random(in: 0..<8, using: &random) {
    case 0:
      return [0, -0.0, .nan, .infinity, -.infinity, .leastNonzeroMagnitude, .greatestFiniteMagnitude]
        .randomElement(
          using: &random)!
    case 1: return Double(Int.random(in: -1_000_000...1_000_000, using: &random))
    case 2: return pow(10, Double(Int.random(in: -30...30, using: &random)))
    case 3: return Double(sign: .plus, exponent: Int.random(in: -1074...1023, using: &random), significand: 1)
    case 4:
      // Small odd multiples of powers of two lie between short decimals.
      return Double(Int.random(in: 1...2048, using: &random))
        * pow(2, Double(Int.random(in: -60...80, using: &random)))
    case 5:
      return Double(
        "\(Int.random(in: -99_999...99_999, using: &random))e\(Int.random(in: -25...25, using: &random))")!
    case 6: return Double(Int64.random(in: .min ... .max, using: &random))
    default: return Double(bitPattern: random.next())
    }
  }

  private mutating func numeric() -> [UInt8] {
    if chance(12) {
      return big(Int16(0)) + big(Int16(0))
        + big([0xC000, 0xD000, 0xF000].randomElement(using: &random)! as UInt16)
        + big(Int16(0))
    }
    let isExtreme = chance(3_000)
    let digits = (0..<Int.random(in: 0...6, using: &random)).map { _ in
      chance(3)
        ? [0, 1, 9999, 1000].randomElement(using: &random)! : UInt16.random(in: 0...9999, using: &random)
    }
    let weight =
      isExtreme
      ? Int16([8_000, 30_000, -4_000].randomElement(using: &random)!)
      : Int16.random(in: -8...8, using: &random)
    let scale =
      isExtreme ? UInt16.random(in: 0...16_383, using: &random) : UInt16.random(in: 0...30, using: &random)
    return big(Int16(digits.count)) + big(weight) + big(chance(2) ? 0 : 0x4000 as UInt16) + big(scale)
      + digits.flatMap { big($0) }
  }

  private mutating func days() -> Int32 {
    switch Int.random(in: 0..<4, using: &random) {
    case 0:
      [Int32.min, .max, -2_451_545, 2_145_031_948, 0, -730_119, -730_120, 2_921_939].randomElement(
        using: &random)!
    case 1: .random(in: -2_451_545...2_145_031_948, using: &random)
    default: .random(in: -800_000...3_000_000, using: &random)
    }
  }

  private mutating func microseconds() -> Int64 {
    switch Int.random(in: 0..<4, using: &random) {
    case 0:
      [
        Int64.min, .max, -211_813_488_000_000_000, 9_223_371_331_199_999_999, 0, -1, RFC3339.lowest,
        RFC3339.end,
        RFC3339.end - 1, RFC3339.lowest - 1,
      ].randomElement(using: &random)!
    case 1: .random(in: -211_813_488_000_000_000...9_223_371_331_199_999_999, using: &random)
    case 2: Int64.random(in: -60_000_000_000...250_000_000_000, using: &random) * 1_000_000
    default: .random(in: RFC3339.lowest..<RFC3339.end, using: &random)
    }
  }

  private mutating func integer<Number: FixedWidthInteger>(_ type: Number.Type) -> [UInt8] {
    big(
      chance(4)
        ? [.min, .max, 0].randomElement(using: &random)! : Number.random(in: .min ... .max, using: &random))
  }

  private mutating func word(_ limit: Int) -> [UInt8] {
    (0..<Int.random(in: 0...limit, using: &random)).map { _ in
      Array("ab \t\\z".utf8).randomElement(using: &random)!
    }
  }

  mutating func row() -> [[UInt8]] {
    let float = chance(2) ? Float(double()) : Float(bitPattern: UInt32(truncatingIfNeeded: random.next()))
    return [
      big(double().bitPattern), big(float.bitPattern), numeric(), big(days()), big(microseconds()),
      big(microseconds()), integer(Int16.self), integer(Int32.self), integer(Int64.self), [chance(2) ? 1 : 0],
      big(random.next()) + big(random.next()), word(12),
      [1] + Array("{\"k\": [\(Int.random(in: -9...9, using: &random)), \"\\u00e9\\\\\"]}".utf8),
    ]
  }
}

private let types: [(name: String, type: ColumnType)] = [
  ("float8", .float8), ("float4", .float4), ("numeric", .numeric), ("date", .date), ("timestamp", .timestamp),
  ("timestamptz", .timestamptz), ("int2", .int2), ("int4", .int4), ("int8", .int8), ("bool", .bool),
  ("uuid", .uuid),
  ("char(12)", .bpchar), ("jsonb", .jsonb),
]

/// What COPY's text format makes of a text.
private func unescaped(_ field: Substring.UTF8View) -> String {
  var bytes: [UInt8] = []
  var isEscaped = false
  for byte in field {
    if isEscaped {
      bytes.append([0x74: 0x09, 0x6E: 0x0A, 0x72: 0x0D][byte] ?? byte)
      isEscaped = false
    } else if byte == 0x5C {
      isEscaped = true
    } else {
      bytes.append(byte)
    }
  }
  return String(decoding: bytes, as: UTF8.self)
}

private func text(_ type: ColumnType, _ bytes: [UInt8], _ arena: inout ByteArena) throws -> String {
  arena.reset()
  return try bytes.withUnsafeBytes { bytes in
    String(
      decoding: try ValueText.text(
        of: ColumnValue(format: .binary, bytes: bytes), ColumnSource(index: 0, form: type.form), part: "x",
        arena: &arena), as: UTF8.self)
  }
}

@Suite(.serialized) struct ValueTextFuzzTests {
  /// Of all types together. The campaign: OUTBOXD_FUZZ_VALUES=1000000.
  static let valueCount =
    ProcessInfo.processInfo.environment["OUTBOXD_FUZZ_VALUES"].flatMap { Int($0) } ?? 60_000

  @Test(arguments: ends) func `the text of a random value is the one that Postgres prints`(version: Int)
    throws
  {
    let server = try PostgresServer(version: version)
    var maker = ValueMaker(random: RelayTesting.SeededGenerator("values of every type"))
    let rows = (0..<Self.valueCount / types.count).map { _ in maker.row() }
    let input = TestFolder.make("values") + "/in"
    try BinaryCopy.file(rows).write(to: URL(fileURLWithPath: input))
    let columns = types.indices.map { "c\($0)" }
    let texts = zip(columns, types).map { column, type in
      guard type.type == .timestamp || type.type == .timestamptz else { return "\(column)::text" }
      let zone = type.type == .timestamptz ? "+00" : ""
      return
        "CASE WHEN \(column) >= '0001-01-01 00:00:00\(zone)' AND \(column) < '10000-01-01 00:00:00\(zone)' "
        + "THEN to_char(\(column), 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') ELSE \(column)::text END"
    }
    try server.sql(
      """
      SET TimeZone = 'UTC'; SET synchronize_seqscans = off;
      CREATE TABLE v (\(zip(columns, types).map { "\($0) \($1.name)" }.joined(separator: ", ")));
      COPY v FROM '\(input)' (FORMAT binary);
      COPY v TO '\(server.folder)/sent' (FORMAT binary);
      COPY (SELECT \(texts.joined(separator: ", ")) FROM v) TO '\(server.folder)/printed';
      """)
    let sent = try BinaryCopy.read(server.folder + "/sent")
    let printed = try String(contentsOfFile: server.folder + "/printed", encoding: .utf8)
      .split(separator: "\n", omittingEmptySubsequences: true)
    try #require(sent.count == rows.count && printed.count == rows.count)
    var arena = ByteArena()
    var faults = 0
    for (values, line) in zip(sent, printed) {
      let fields = line.utf8.split(separator: 0x09, omittingEmptySubsequences: false)
      for (index, field) in fields.enumerated() where faults < 20 {
        let expected = unescaped(field)
        let made = try text(types[index].type, values[index], &arena)
        if made != expected {
          faults += 1
          Issue.record("\(types[index].name) \(values[index]): \(made), Postgres prints \(expected)")
        }
      }
    }
  }

  @Test(arguments: ends) func `a random local time is the moment that Postgres takes it for`(version: Int)
    throws
  {
    let server = try PostgresServer(version: version)
    var random = RelayTesting.SeededGenerator("local times")
    var names = [
      "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia",
      "Europe/Moscow",
      "Europe/Dublin", "Africa/Casablanca", "Africa/Cairo", "America/Sao_Paulo", "Asia/Kathmandu",
      "Asia/Tehran",
      "Antarctica/Troll", "America/St_Johns", "Pacific/Chatham", "EST5EDT", "Etc/GMT+5", "Africa/Monrovia",
    ]
    // Servers that were built here bring a database of zones of their own, which may know more of the past.
    let isOfSystem = version == PostgresServer.defaultVersion
    let earliest = isOfSystem ? Int64(-3_155_000_000_000_000) : -.unixEpochOffset
    let known = try server.sql(
      "SELECT name FROM pg_timezone_names WHERE name LIKE '%/%' AND name NOT LIKE 'posix%' ORDER BY 1"
    ).split(separator: "\n").map(String.init)
    if isOfSystem { names += (0..<7).map { _ in known.randomElement(using: &random)! } }
    var rows: [[[UInt8]]] = []
    var expected: [(zone: TimeZoneRules, local: Int64)] = []
    for name in names {
      let rules = try TimeZoneDatabase.rules(name)
      for number in 0..<800 {
        var local = Int64.random(in: earliest...3_155_000_000_000_000, using: &random)
        if number % 2 == 0, rules.offsets.count > 1 {
          let change = rules.offsets.dropFirst().randomElement(using: &random)!
          local =
            (change.start + Int64.random(in: -100_000...100_000, using: &random)) * 1_000_000
            - .unixEpochOffset
        }
        local = max(local, earliest)
        rows.append([Array(name.utf8), big(local)])
        expected.append((rules, local))
      }
    }
    let input = TestFolder.make("zones") + "/in"
    try BinaryCopy.file(rows).write(to: URL(fileURLWithPath: input))
    try server.sql(
      """
      CREATE TABLE z (zone text, local timestamp); COPY z FROM '\(input)' (FORMAT binary);
      COPY (SELECT local AT TIME ZONE zone FROM z) TO '\(server.folder)/moments' (FORMAT binary)
      """)
    let moments = try BinaryCopy.read(server.folder + "/moments")
    try #require(moments.count == rows.count)
    var faults: [String: Int] = [:]
    for (row, entry) in zip(moments, expected)
    where entry.zone.moment(local: entry.local) != row[0].reduce(0, { $0 << 8 | Int64($1) }) {
      faults["\(entry.zone.name) \(RFC3339.string(microseconds: entry.local).prefix(10))", default: 0] += 1
    }
    #expect(faults.isEmpty, "\(faults.sorted { $0.key < $1.key }.prefix(20))")
  }

  @Test(arguments: [
    "", "Mars/Olympus", "europe/berlin", "../etc/passwd", "posixrules", "right/Europe/Berlin", "posix/UTC",
    "CET",
    "Europe", "Europe/", "zone.tab", "Europe/Berlin\n", ":UTC",
  ])
  func `what is no zone is refused`(name: String) {
    #expect(throws: RelayError.self) { try TimeZoneDatabase.rules(name) }
  }

  @Test func `the process keeps its own zone`() throws {
    let before = getenv("TZ").map { String(cString: $0) }
    let rules = try TimeZoneDatabase.rules("Europe/Berlin")
    #expect(rules.offsets.count > 100)
    #expect(getenv("TZ").map { String(cString: $0) } == before)
    #expect(try TimeZoneDatabase.rules("UTC") == .utc)
  }
}
