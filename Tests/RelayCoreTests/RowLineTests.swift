// Owns: a row in Postgres' text format as a line of JSON, and the record that is made of it.
import Foundation
import Testing

@testable import RelayCore

@Suite struct RowLineTests {
  private let columns: [(name: String, type: ColumnType)] = [
    ("id", .text), ("aggregatetype", .text), ("aggregateid", .text), ("type", .text), ("payload", .bytea),
    ("created_at", .timestamptz), ("day", .date),
  ]

  private func line(_ values: [String?], isUTF8: Bool = true) throws -> [String: Any] {
    var mapping = OutboxMapping()
    mapping.extensions = [OutboxMapping.Extension(name: "day", column: "day")]
    let relation = Relation(
      id: 7, schema: "public", table: "outbox",
      columns: columns.map { Relation.Column(name: $0.name, type: $0.type) })
    var lines = RowLine(mappings: [mapping], database: "shop", isUTF8: isUTF8)
    lines.prepare(relation)
    let literals = Literals()
    let row = values.map { text in
      text.map { ColumnValue(format: .text, bytes: literals.lend($0)) }
        ?? ColumnValue(format: .null, bytes: LentBytes(start: nil, count: 0))
    }
    let bytes = try row.withUnsafeBufferPointer { buffer in
      let row = RowView(relationID: 7, values: buffer)
      return Data(
        try lines.line(of: row, commitLSN: LSN(0x16B3748), commitTime: 0, index: 3).line)
    }
    #expect(bytes.last == 0x0A)
    return try #require(try JSONSerialization.jsonObject(with: bytes) as? [String: Any])
  }

  private func headers(_ line: [String: Any]) throws -> [String: String] {
    let record = try #require(line["record"] as? [String: Any], "\(line)")
    let headers = try #require(record["headers"] as? [[String: String]])
    return Dictionary(headers.map { ($0["name"] ?? "", $0["value"] ?? "") }) { $1 }
  }

  @Test func `a line has the place, each column as Postgres prints it, and the record of the stream`() throws
  {
    let line = try line(["1", "order", "k\"ü", "T", "\\x00ff", "2026-11-28 07:00:00.5+00", "2026-02-28"])
    #expect(line["table"] as? String == "public.outbox" && line["commit_lsn"] as? String == "0/16B3748")
    #expect(line["index"] as? Int == 3)
    let columns = try #require(line["columns"] as? [String: Any])
    #expect(columns["payload"] as? String == "\\x00ff" && columns["aggregateid"] as? String == "k\"ü")
    #expect((line["record"] as? [String: Any])?["value_base64"] as? String == "AP8=")
    let headers = try headers(line)
    #expect(headers["ce_time"] == "2026-11-28T07:00:00.500000Z" && headers["ce_day"] == "2026-02-28")
  }

  @Test(arguments: ["infinity", "-infinity", "5874897-12-31", "4713-01-01 BC", ""])
  func `a date beyond RFC 3339 is Postgres' text, in its column and in the record`(date: String) throws {
    let line = try line(["1", "order", "k", "T", nil, "2026-11-28 07:00:00+00", date])
    #expect(try headers(line)["ce_day"] == (date.isEmpty ? nil : date))
    #expect((line["columns"] as? [String: Any])?["day"] as? String == date)
  }

  @Test(arguments: ["infinity", "-infinity", "10000-01-01 00:00:00+00", "0044-03-15 00:00:00+00 BC"])
  func `a time that no event can have is a fault of the record, and stands in its column`(time: String) throws
  {
    let line = try line(["1", "order", "k", "T", nil, time, nil])
    #expect(line["record"] is NSNull && (line["fault"] as? String)?.contains("RFC 3339") == true)
    #expect((line["columns"] as? [String: Any])?["created_at"] as? String == time)
  }

  @Test func `a text of another encoding is base64, and makes no record`() throws {
    let line = try line(["1", "order", "ü", "T", nil, nil, nil], isUTF8: false)
    #expect(((line["columns"] as? [String: Any])?["aggregateid"] as? [String: String])?["base64"] == "w7w=")
    #expect(line["record"] is NSNull)
  }
}
