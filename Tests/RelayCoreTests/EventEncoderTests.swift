import Testing

@testable import RelayCore

/// Encodes one row; the golden texts below are what a consumer gets.
private func encode(
  _ row: Row, _ relation: Relation, _ mapping: OutboxMapping = OutboxMapping(),
  commitLSN: UInt64 = 0x16_B374D848,
  index: UInt32 = 7
) throws -> CopiedRecord {
  var encoder = EventEncoder(mappings: [mapping], database: "shop")
  encoder.prepare(relation)
  let record = try encoder.encode(
    row.view, commitLSN: LSN(commitLSN), commitTime: 817_034_302_123_456, index: index)
  return CopiedRecord(try #require(record))
}

private func rejection(
  _ row: Row, _ relation: Relation, _ mapping: OutboxMapping = OutboxMapping()
) -> RelayError? {
  do {
    _ = try encode(row, relation, mapping)
    return nil
  } catch {
    return error as? RelayError
  }
}

private func structured() -> OutboxMapping {
  var mapping = OutboxMapping()
  mapping.contentMode = .structured
  return mapping
}

@Suite struct EventEncoderTests {
  @Test func `binary mode: eight headers, payload untouched, key is the aggregate id`() throws {
    let record = try encode(outboxRow(), outboxRelation())
    #expect(record.topic == "outbox.event.order")
    #expect(record.keyText == "o-1")
    #expect(record.text == #"{"n": 1.0}"#)
    #expect(
      record.headers == [
        "content-type: application/json", "ce_specversion: 1.0",
        "ce_id: 01234567-89ab-cdef-1032-547698badcfe", "ce_source: /shop/public/outbox",
        "ce_type: OrderPlaced", "ce_subject: o-1", "ce_time: 2025-11-21T09:58:22.123456Z",
        "ce_sequence: 00000016b374d848-00000007",
      ])
  }

  @Test func `structured mode: one JSON object, the payload spliced as it is`() throws {
    let record = try encode(outboxRow(), outboxRelation(), structured())
    #expect(record.headers == ["content-type: application/cloudevents+json; charset=UTF-8"])
    #expect(
      record.text
        == #"{"specversion":"1.0","id":"01234567-89ab-cdef-1032-547698badcfe","source":"/shop/public/outbox","#
        + #""type":"OrderPlaced","subject":"o-1","time":"2025-11-21T09:58:22.123456Z","#
        + #""sequence":"00000016b374d848-00000007","datacontenttype":"application/json","data":{"n": 1.0}}"#)
  }

  @Test func `a NULL payload is a null value in binary mode and no data in structured mode`() throws {
    let binary = try encode(outboxRow(payload: .null), outboxRelation())
    #expect(binary.value == nil)
    #expect(binary.header("content-type") == nil)
    let text = try #require(try encode(outboxRow(payload: .null), outboxRelation(), structured()).text)
    #expect(!text.contains("data"))
  }

  @Test func `an empty payload is an empty value, not a null one`() throws {
    let record = try encode(outboxRow(payload: .text("")), outboxRelation(payload: .text))
    #expect(record.value == [])
    #expect(record.header("content-type") == "text/plain; charset=utf-8")
  }

  @Test func `bytea travels as it is in binary mode and as base64 in structured mode`() throws {
    let bytes = outboxRow(payload: .bytes([0, 0xFF, 0x10, 0x20]))
    #expect(try encode(bytes, outboxRelation(payload: .bytea)).value == [0, 0xFF, 0x10, 0x20])
    let text = try #require(try encode(bytes, outboxRelation(payload: .bytea), structured()).text)
    #expect(text.hasSuffix(#""datacontenttype":"application/octet-stream","data_base64":"AP8QIA=="}"#))
  }

  @Test func `text that is not JSON becomes a JSON string`() throws {
    let text = try #require(
      try encode(outboxRow(payload: .text("a\"b\n\u{1}é")), outboxRelation(payload: .text), structured()).text
    )
    #expect(text.hasSuffix(#""data":"a\"b\n\u0001é"}"#))
  }

  @Test func `text declared as JSON is spliced only when it is JSON`() throws {
    var mapping = structured()
    mapping.datacontenttype = "application/json"
    let good = try encode(outboxRow(payload: .text(" [1,2] ")), outboxRelation(payload: .text), mapping)
    #expect(try #require(good.text).hasSuffix(#""data": [1,2] }"#))
    let bad = rejection(outboxRow(payload: .text("{]")), outboxRelation(payload: .text), mapping)
    #expect(bad?.kind == .rowRejected)
    #expect(bad?.message.contains("not valid JSON") == true)
  }

  @Test(
    arguments: [
      (ColumnType.int2, bigEndian(Int16(-5)), "-5"),
      (.int4, bigEndian(Int32.min), "-2147483648"),
      (.int8, bigEndian(Int64.min), "-9223372036854775808"),
      (.bool, [1], "true"),
      (.uuid, sampleUUID, "01234567-89ab-cdef-1032-547698badcfe"),
      (.timestamptz, bigEndian(Int64(0)), "2000-01-01T00:00:00.000000Z"),
      (.timestamp, bigEndian(Int64(-1)), "1999-12-31T23:59:59.999999Z"),
      (.date, bigEndian(Int32(59)), "2000-02-29"),
      (.numeric, numeric(weight: 1, sign: 0, scale: 2, digits: [12, 3456, 7800]), "123456.78"),
      (.numeric, numeric(weight: -1, sign: 0x4000, scale: 5, digits: [12, 3000]), "-0.00123"),
      (.numeric, numeric(weight: 2, sign: 0, scale: 0, digits: [1]), "100000000"),
      (.numeric, numeric(weight: 0, sign: 0, scale: 0, digits: []), "0"),
      (.numeric, numeric(weight: 0, sign: 0xC000, scale: 0, digits: []), "NaN"),
      (.float8, bigEndian((0.5).bitPattern), "0.5"),
      (.bytea, [0xFB, 0xFF], "+/8="),
      (.jsonb, [1] + Array("\"x\"".utf8), "\"x\""),
      (.other(oid: 99_999, name: "mood"), Array("happy".utf8), "happy"),
    ] as [(ColumnType, [UInt8], String)])
  func `every type serves as an attribute`(type: ColumnType, bytes: [UInt8], text: String) throws {
    var mapping = OutboxMapping()
    mapping.extensions = [.init(name: "x", column: "x")]
    let record = try encode(
      outboxRow(extra: [.bytes(bytes)]), outboxRelation(extra: [("x", type)]), mapping)
    #expect(record.header("ce_x") == text)
  }

  @Test func `a value of the wrong size is rejected, never a trap`() {
    var mapping = OutboxMapping()
    mapping.extensions = [.init(name: "x", column: "x")]
    let types: [ColumnType] = [
      .int2, .int4, .int8, .bool, .uuid, .timestamptz, .timestamp, .date, .numeric, .float4, .float8, .jsonb,
    ]
    for type in types {
      for count in [0, 3, 9, 17] {
        let row = outboxRow(extra: [.bytes([UInt8](repeating: 2, count: count))])
        #expect(
          rejection(row, outboxRelation(extra: [("x", type)]), mapping)?.kind == .rowRejected,
          "\(type) of \(count) bytes")
      }
    }
  }

  @Test func `topics: per entity, type, version and column`() throws {
    var mapping = OutboxMapping()
    let relation = outboxRelation(extra: [("version", .int4), ("destination", .text)])
    let row = outboxRow(extra: [.bytes(bigEndian(Int32(2))), .text("billing.in")])
    for (template, topic) in [
      ("{aggregatetype}", "order"), ("events.{type}", "events.OrderPlaced"),
      ("orders.v{version}", "orders.v2"),
      ("{destination}", "billing.in"), ("fixed", "fixed"), ("{schema}.{table}", "public.outbox"),
    ] {
      mapping.topic = try Template(template)
      #expect(try encode(row, relation, mapping).topic == topic)
    }
  }

  @Test func `the topic follows its column from row to row, and a refused one is refused again`() throws {
    var mappings = [OutboxMapping(), OutboxMapping()]
    mappings[0].topic = try Template("out.{destination}")
    mappings[1].topic = try Template("{destination}.two")
    mappings[1].table = "second"
    let longest = String(repeating: "x", count: CloudEventRules.topicLimit - 4)
    let destinations: [(text: String?, table: UInt32)] = [
      ("ab", 1), ("ab", 1), ("ac", 1), ("ab", 2), ("ab", 1), ("a/", 1), ("a/", 1), ("a", 1), ("ab", 1),
      (nil, 1),
      ("ab", 1), (longest, 1), (longest, 1), (longest + "x", 1), (longest + "x", 1), ("", 1), ("", 1),
      ("ab", 2),
    ]
    var encoder = EventEncoder(mappings: mappings, database: "shop")
    for round in 0..<2 {
      for (id, table) in [(1, "outbox"), (2, "second")] as [(UInt32, String)] {
        var shape = outboxRelation(extra: [("destination", .text)])
        (shape.id, shape.table) = (id, table)
        encoder.prepare(shape)
      }
      for (text, table) in destinations {
        let row = outboxRow(extra: [text.map { .text($0) } ?? .null], relationID: table)
        var topic: String?
        if let record = try? encoder.encode(row.view, commitLSN: LSN(1), commitTime: 0, index: 0) {
          topic = CopiedRecord(record).topic
        }
        let expected = text.map { table == 1 ? "out." + $0 : $0 + ".two" }
        #expect(
          topic == expected.flatMap { CloudEventRules.isTopic($0) ? $0 : nil }, "\(text ?? "NULL") \(round)")
      }
    }
  }

  @Test func `a value that is longer than its topic finds its topic again`() throws {
    var mapping = OutboxMapping()
    mapping.topic = try Template("{destination}")
    let digits = String(repeating: "7", count: CloudEventRules.topicLimit)
    var encoder = EventEncoder(mappings: [mapping], database: "shop")
    encoder.prepare(outboxRelation(extra: [("destination", .jsonb)]))
    for text in [digits, digits, "8", "8", digits] {
      let row = outboxRow(extra: [.bytes([1] + Array(text.utf8))])
      let record = try encoder.encode(row.view, commitLSN: LSN(1), commitTime: 0, index: 0)
      #expect(CopiedRecord(try #require(record)).topic == text)
    }
  }

  @Test func `every attribute there is, in both modes`() throws {
    let shape = relation([
      ("id", .text), ("aggregatetype", .text), ("aggregateid", .text), ("type", .text), ("payload", .text),
      ("region", .text), ("datacontenttype", .text), ("created_at", .timestamptz), ("attempt", .int4),
      ("headers", .json),
    ])
    let row = Row([
      .text("i\"1"), .text("order"), .text("o\\1"), .text("Order\"Placed"), .text("<a/>"), .text("eu"),
      .text("text/xml"), .bytes(bigEndian(Int64(1))), .bytes(bigEndian(Int32(3))),
      .text(#"{"traceparent":"00-1","X-Plain":"p"}"#),
    ])
    var mapping = OutboxMapping()
    mapping.source = try Template("/shop/{region}")
    mapping.dataschema = try Template("https://schemas.example/{region}")
    mapping.columns.datacontenttype = "datacontenttype"
    mapping.partitionkey = true
    mapping.extensions = [.init(name: "attempt", column: "attempt")]
    let binary = try encode(row, shape, mapping)
    #expect(
      binary.headers == [
        "content-type: text/xml", "ce_specversion: 1.0", "ce_id: i\"1", "ce_source: /shop/eu",
        "ce_type: Order\"Placed", "ce_subject: o\\1", "ce_time: 2000-01-01T00:00:00.000001Z",
        "ce_sequence: 00000016b374d848-00000007", "ce_dataschema: https://schemas.example/eu",
        "ce_partitionkey: o\\1", "ce_attempt: 3", "ce_traceparent: 00-1", "X-Plain: p",
      ])
    #expect(binary.text == "<a/>")
    mapping.contentMode = .structured
    let whole = try encode(row, shape, mapping)
    #expect(whole.headers == ["content-type: application/cloudevents+json; charset=UTF-8", "X-Plain: p"])
    #expect(
      whole.text
        == #"{"specversion":"1.0","id":"i\"1","source":"/shop/eu","type":"Order\"Placed","subject":"o\\1","#
        + #""time":"2000-01-01T00:00:00.000001Z","sequence":"00000016b374d848-00000007","#
        + #""datacontenttype":"text/xml","dataschema":"https://schemas.example/eu","partitionkey":"o\\1","#
        + #""attempt":3,"traceparent":"00-1","data":"<a/>"}"#)
  }

  @Test(arguments: ["", ".", "..", "a/b", "a b", "é", String(repeating: "x", count: 250)])
  func `what is no topic name is rejected`(name: String) throws {
    var mapping = OutboxMapping()
    mapping.topic = try Template("{destination}")
    let error = rejection(
      outboxRow(extra: [.text(name)]), outboxRelation(extra: [("destination", .text)]), mapping)
    #expect(error?.kind == .rowRejected)
    #expect(error?.message.contains("01234567-89ab-cdef-1032-547698badcfe") == true)
    #expect(error?.message.contains("16/B374D848") == true)
  }

  @Test func `the other common spelling of the columns is recognised`() throws {
    let other = relation([
      ("id", .int8), ("aggregate_type", .text), ("aggregate_id", .text), ("event_type", .text),
      ("payload", .json), ("created_at", .timestamptz), ("headers", .jsonb),
    ])
    let row = Row([
      .bytes(bigEndian(Int64(42))), .text("order"), .text("o-9"), .text("Placed"), .text("[]"),
      .bytes(bigEndian(Int64(0))),
      .bytes(
        [1]
          + Array(
            #"{"correlationid": "c\u00e9", "Trace-Id": "t", "n": 3, "off": null, "deep": {"a":1}}"#.utf8)),
    ])
    let record = try encode(row, other)
    #expect(record.topic == "outbox.event.order")
    #expect(record.header("ce_time") == "2000-01-01T00:00:00.000000Z")
    #expect(record.header("ce_correlationid") == "cé")
    #expect(record.header("Trace-Id") == "t")
    #expect(record.header("ce_n") == "3")
    #expect(record.header("ce_deep") == #"{"a":1}"#)
    #expect(record.header("ce_off") == nil)
    let text = try #require(try encode(row, other, structured()).text)
    #expect(text.contains(#","correlationid":"cé","n":3,"deep":"{\"a\":1}","data":[]}"#))
  }

  @Test func `a missing column halts at the first row and is named`() {
    let bare = relation([("id", .uuid), ("type", .text), ("payload", .jsonb)])
    let row = Row([.bytes(sampleUUID), .text("T"), .bytes([1, 0x7B, 0x7D])])
    let error = rejection(row, bare)
    #expect(error?.kind == .tableUnsuitable)
    #expect(error?.message.contains("{aggregatetype}") == true)
  }

  @Test func `a table that no outbox names is refused`() {
    let error = rejection(outboxRow(), relation([("id", .uuid)], table: "other"))
    #expect(error?.kind == .publicationUnsuitable)
  }

  @Test func `partitionkey is written only on request, and equals the key`() throws {
    var mapping = OutboxMapping()
    mapping.partitionkey = true
    #expect(try encode(outboxRow(), outboxRelation(), mapping).header("ce_partitionkey") == "o-1")
  }

  @Test func `the id of a record is found in both modes`() throws {
    for mapping in [OutboxMapping(), structured()] {
      var encoder = EventEncoder(mappings: [mapping], database: "shop")
      encoder.prepare(outboxRelation())
      let row = outboxRow()
      let record = try #require(try encoder.encode(row.view, commitLSN: LSN(1), commitTime: 0, index: 0))
      #expect(EventShape.text(of: .id, in: record) == "01234567-89ab-cdef-1032-547698badcfe")
    }
  }
}

private func numeric(weight: Int16, sign: UInt16, scale: UInt16, digits: [UInt16]) -> [UInt8] {
  bigEndian(UInt16(digits.count)) + bigEndian(weight) + bigEndian(sign) + bigEndian(scale)
    + digits.flatMap(bigEndian)
}
