// Names and values that stand in source, dataschema, key and time as nobody expected them.
import Testing

@testable import RelayCore

private func encode(
  _ row: Row, _ relation: Relation, database: String = "shop", _ mapping: OutboxMapping = OutboxMapping()
) throws -> (record: CopiedRecord, omissions: Omissions) {
  var encoder = EventEncoder(mappings: [mapping], database: database)
  encoder.prepare(relation)
  let record = CopiedRecord(
    try #require(try encoder.encode(row.view, commitLSN: LSN(1), commitTime: 0, index: 0)))
  return (record, encoder.omissions)
}

@Suite struct SourceAndKeyTests {
  @Test(
    arguments: [
      ("shop", "public", "outbox", "/shop/public/outbox"),
      ("My-Db 1", "public", "outbox", "/My-Db%201/public/outbox"),
      ("shop", "Sales%20", "Ereignisse_ä", "/shop/Sales%2520/Ereignisse_%C3%A4"),
      ("a/b?c#d", "[x]", "y:z@w+", "/a%2Fb%3Fc%23d/%5Bx%5D/y:z@w+"),
    ])
  func `names are segments of the source's path`(
    database: String, schema: String, table: String, source: String
  ) throws {
    var mapping = OutboxMapping(schema: schema, table: table)
    var shape = outboxRelation()
    (shape.schema, shape.table) = (schema, table)
    #expect(try encode(outboxRow(), shape, database: database, mapping).record.header("ce_source") == source)
    mapping.dataschema = try Template("https://schemas.example/{schema}/{type}")
    mapping.contentMode = .structured
    let text = try #require(try encode(outboxRow(), shape, database: database, mapping).record.text)
    #expect(text.contains("\"source\":\"\(source)\""))
    #expect(text.contains("https://schemas.example/\(PercentEncoding.segment(schema))/OrderPlaced"))
  }

  @Test(
    arguments: [
      ("eu", "/s/eu"), ("a b", "/s/a%20b"), ("a/b?c#d", "/s/a/b?c#d"), ("ä", "/s/%C3%A4"), ("%41", "/s/%41"),
      ("100%", "/s/100%25"), ("%4", "/s/%254"), ("<\">", "/s/%3C%22%3E"), ("", "/s/"),
    ])
  func `of a column's value only what no URI may hold is encoded`(value: String, source: String) throws {
    var mapping = OutboxMapping()
    mapping.source = try Template("/s/{region}")
    mapping.dataschema = try Template("https://h/{region}")
    let shape = outboxRelation(extra: [("region", .text)])
    let record = try encode(outboxRow(extra: [.text(value)]), shape, mapping).record
    #expect(record.header("ce_source") == source)
    #expect(record.header("ce_dataschema") == "https://h/" + source.dropFirst(3))
  }

  @Test func `without an aggregate id the default key is a null key, counted and told once`() throws {
    let row = Row([.bytes(sampleUUID), .text("order"), .null, .text("T"), .bytes([1, 0x7B, 0x7D])])
    for mode in OutboxMapping.ContentMode.allCases {
      var mapping = OutboxMapping()
      mapping.contentMode = mode
      mapping.partitionkey = true
      let (record, omissions) = try encode(row, outboxRelation(), mapping)
      #expect(record.key == nil && omissions.keys == 1 && omissions.notes.map(\.omission) == [.key])
      #expect(record.header("ce_subject") == nil && record.header("ce_partitionkey") == nil)
    }
  }

  @Test func `a key of the operator's own with a NULL in it names both ways out`() throws {
    var mapping = OutboxMapping()
    mapping.key = try Template("{aggregateid}/{region}")
    let shape = outboxRelation(extra: [("region", .text)])
    let error = #expect(throws: RelayError.self) { try encode(outboxRow(extra: [.null]), shape, mapping) }
    #expect(error?.kind == .rowRejected)
    #expect(error?.message.contains("key: a column of the template {aggregateid}/{region} is NULL") == true)
    #expect(error?.remedy?.contains("never NULL") == true && error?.remedy?.contains("none") == true)
  }

  @Test func `an infinite time is rejected with the way out, and that way is one`() throws {
    let shape = outboxRelation(extra: [("created_at", .timestamptz)])
    var mapping = OutboxMapping()
    for time in [Int64.max, .min, RFC3339.end, RFC3339.lowest - 1] {
      mapping.columns.time = nil
      let row = outboxRow(extra: [.bytes(bigEndian(time))])
      let error = #expect(throws: RelayError.self) { try encode(row, shape, mapping) }
      #expect(error?.kind == .rowRejected)
      #expect(error?.remedy?.contains("columns.time of the outbox public.outbox to none") == true)
      mapping.columns.time = "none"
      #expect(try encode(row, shape, mapping).record.header("ce_time") == "2000-01-01T00:00:00.000000Z")
    }
  }

  @Test func `a commit time that RFC 3339 cannot tell is left out`() throws {
    var encoder = EventEncoder(mappings: [OutboxMapping()], database: "shop")
    encoder.prepare(outboxRelation())
    let row = outboxRow()
    for time in [Int64.max, .min, .min + 1, RFC3339.end] {
      let record = try encoder.encode(row.view, commitLSN: LSN(1), commitTime: time, index: 0)
      #expect(CopiedRecord(try #require(record)).header("ce_time") == nil)
    }
  }

  @Test func `a time without zone is read in the declared zone wherever it stands`() throws {
    var mapping = OutboxMapping()
    mapping.columns.timeZone = TimeZoneRules(name: "East", offsets: [.init(start: .min, seconds: 3600)])
    mapping.extensions = [.init(name: "at", column: "created_at"), .init(name: "zoned", column: "z")]
    mapping.key = try Template("{created_at}")
    let shape = outboxRelation(extra: [("created_at", .timestamp), ("z", .timestamptz)])
    let row = outboxRow(extra: [.bytes(bigEndian(Int64(0))), .bytes(bigEndian(Int64(0)))])
    let record = try encode(row, shape, mapping).record
    #expect(record.header("ce_time") == "1999-12-31T23:00:00.000000Z")
    #expect(record.header("ce_at") == "1999-12-31T23:00:00.000000Z")
    #expect(record.header("ce_zoned") == "2000-01-01T00:00:00.000000Z")
    #expect(record.keyText == "1999-12-31T23:00:00.000000Z")
  }

  @Test func `padding of char(n) is no part of key, type, id or topic, and stays in the payload`() throws {
    let shape = relation([
      ("id", .bpchar), ("aggregatetype", .bpchar), ("aggregateid", .bpchar), ("type", .bpchar),
      ("payload", .bpchar),
    ])
    let row = Row([.text("i1  "), .text("order  "), .text("o-1 "), .text("T   "), .text("p  ")])
    let record = try encode(row, shape).record
    #expect(record.topic == "outbox.event.order" && record.keyText == "o-1" && record.text == "p  ")
    #expect(record.header("ce_id") == "i1" && record.header("ce_type") == "T")
    #expect(record.header("ce_subject") == "o-1")
    #expect(record.header("content-type") == "text/plain; charset=utf-8")
  }

  @Test(
    arguments: [
      ("public", "outbox", "public.outbox"), ("Sales%20", "OutboxEvents", #""Sales%20"."OutboxEvents""#),
      ("a.b", "c\"d", #""a.b"."c""d""#), ("public", "2nd", #"public."2nd""#),
      ("public", "ereignisse_ä", #"public."ereignisse_ä""#),
    ])
  func `a table's name in messages is quoted where SQL would read it otherwise`(
    schema: String, table: String, text: String
  ) {
    #expect(OutboxMapping(schema: schema, table: table).qualifiedName == text)
  }
}
