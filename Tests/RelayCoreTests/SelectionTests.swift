// Owns: what a replay may change of the way of a row, and what it must not.
import Testing

@testable import RelayCore

/// Encodes one row under these options; nil where it was not selected.
private func encode(
  _ row: Row, _ relation: Relation, _ options: RelayOptions, _ mapping: OutboxMapping = OutboxMapping(),
  commitTime: PostgresMicroseconds = 817_034_302_123_456
) throws -> CopiedRecord? {
  var encoder = EventEncoder(mappings: [mapping], database: "shop", options: options)
  encoder.prepare(relation)
  return try encoder.encode(row.view, commitLSN: LSN(0x16_B374D848), commitTime: commitTime, index: 7)
    .map { CopiedRecord($0) }
}

private func structured() -> OutboxMapping {
  var mapping = OutboxMapping()
  mapping.contentMode = .structured
  return mapping
}

@Suite struct SelectionTests {
  @Test func `a replay changes nothing of the event, and adds one header behind the others`() throws {
    for mapping in [OutboxMapping(), structured()] {
      let first = try #require(try encode(outboxRow(), outboxRelation(), RelayOptions(), mapping))
      let replayed = try #require(
        try encode(outboxRow(), outboxRelation(), RelayOptions(replayMark: "wal"), mapping))
      #expect(replayed.headers == first.headers + ["outboxd-replay: wal"])
      #expect((replayed.topic, replayed.key, replayed.value) == (first.topic, first.key, first.value))
    }
  }

  @Test func `a fixed topic takes the place of the mapping's, even where that has a NULL in it`() throws {
    let options = RelayOptions(topic: "orders.repair")
    #expect(try encode(outboxRow(), outboxRelation(), options)?.topic == "orders.repair")
    var mapping = OutboxMapping()
    mapping.topic = try Template("t.{region}")
    let relation = outboxRelation(extra: [("region", .text)])
    #expect(
      try encode(outboxRow(extra: [.null]), relation, options, mapping)?.topic == "orders.repair")
  }

  @Test func `a row of a table has no sequence, and no time that nobody knows`() throws {
    let options = RelayOptions(hasPositions: false)
    let record = try #require(
      try encode(outboxRow(), outboxRelation(), options, commitTime: .unknown))
    #expect(record.header("ce_sequence") == nil)
    #expect(record.header("ce_time") == nil)
    #expect(record.header("ce_id") == "01234567-89ab-cdef-1032-547698badcfe")
    let text = try #require(
      try encode(outboxRow(), outboxRelation(), options, structured(), commitTime: .unknown)?.text)
    #expect(!text.contains("sequence") && !text.contains(#""time""#))
    // What the table itself says is said.
    let relation = outboxRelation(extra: [("created_at", .timestamptz)])
    let row = outboxRow(extra: [.bytes(bigEndian(Int64(0)))])
    #expect(
      try encode(row, relation, options, commitTime: .unknown)?.header("ce_time")
        == "2000-01-01T00:00:00.000000Z")
  }

  @Test(arguments: [
    (EventSelection(), true),
    (EventSelection(outboxes: ["public.outbox"]), true),
    (EventSelection(outboxes: ["public.other"]), false),
    (EventSelection(aggregatetypes: ["payment", "order"]), true),
    (EventSelection(aggregatetypes: ["orde"]), false),
    (EventSelection(subjects: ["o-1"]), true),
    (EventSelection(subjects: ["o-10"]), false),
    (EventSelection(types: ["OrderPlaced"]), true),
    (EventSelection(types: ["orderplaced"]), false),
    (EventSelection(ids: ["01234567-89ab-cdef-1032-547698badcfe"]), true),
    (EventSelection(ids: ["01234567-89AB-CDEF-1032-547698BADCFE"]), false),
    (EventSelection(subjects: ["o-1"], types: ["OrderShipped"]), false),
    (EventSelection(outboxes: ["public.outbox"], subjects: ["o-1"], types: ["OrderPlaced"]), true),
  ])
  func `an event must be admitted by every part of a selection`(selection: EventSelection, admitted: Bool)
    throws
  {
    let record = try encode(outboxRow(), outboxRelation(), RelayOptions(selection: selection))
    #expect((record != nil) == admitted)
  }

  @Test func `an aggregate that is NULL, or that the table does not have, is nobody's`() throws {
    let options = RelayOptions(selection: EventSelection(aggregatetypes: ["order"]))
    var mapping = OutboxMapping()
    mapping.topic = try Template("t")
    let row = Row([
      .bytes(sampleUUID), .null, .text("o-1"), .text("OrderPlaced"), .bytes([1] + Array("{}".utf8)),
    ])
    #expect(try encode(row, outboxRelation(), options, mapping) == nil)
    let relation = relation([
      ("id", .uuid), ("aggregateid", .text), ("type", .text), ("payload", .jsonb),
    ])
    let short = Row([
      .bytes(sampleUUID), .text("o-1"), .text("OrderPlaced"), .bytes([1] + Array("{}".utf8)),
    ])
    #expect(try encode(short, relation, options, mapping) == nil)
  }

  @Test func `a row that is not selected is not looked at further: it cannot stop a replay`() throws {
    let bad = Row([
      .bytes(sampleUUID), .text("order"), .text("o-1"), .text(""), .bytes([1] + Array("{}".utf8)),
    ])
    let relation = outboxRelation()
    #expect(throws: RelayError.self) { try encode(bad, relation, RelayOptions()) }
    let options = RelayOptions(selection: EventSelection(subjects: ["o-2"]))
    #expect(try encode(bad, relation, options) == nil)
  }

  @Test func `commit times cut at both ends, which are included, and what is not known is admitted`() {
    let selection = EventSelection(from: 10, to: 20)
    for (time, admitted) in [(9, false), (10, true), (20, true), (21, false)] as [(Int64, Bool)] {
      #expect(selection.admits(commitTime: time) == admitted, "\(time)")
    }
    #expect(selection.admits(commitTime: .unknown))
    #expect(EventSelection(from: 10).admits(commitTime: .max))
    #expect(EventSelection().admits(commitTime: 0))
  }

  // MARK: Records read back

  @Test func `the attributes of a record are found again in both modes`() throws {
    let wanted = [
      "/shop/public/outbox", "OrderPlaced", "2025-11-21T09:58:22.123456Z", "00000016b374d848-00000007",
    ]
    for mapping in [OutboxMapping(), structured()] {
      var encoder = EventEncoder(mappings: [mapping], database: "shop")
      encoder.prepare(outboxRelation())
      // A payload with the same names must not win.
      let row = outboxRow(payload: .bytes([1] + Array(#"{"type": "x", "source": "y"}"#.utf8)))
      let record = try #require(
        try encoder.encode(
          row.view, commitLSN: LSN(0x16_B374D848), commitTime: 817_034_302_123_456, index: 7))
      let found = [EventAttribute.source, .type, .time, .sequence].map { EventShape.text(of: $0, in: record) }
      #expect(found == wanted)
    }
  }

  @Test func `a record's line holds exactly its bytes, in base64 where they are no text`() throws {
    func line(_ key: [UInt8]?, _ value: [UInt8]?, _ header: [UInt8]) -> String {
      var lines = RecordLine()
      return Array("a.b".utf8).withUnsafeBytes { topic in
        Array("h\0".utf8).withUnsafeBytes { name in
          header.withUnsafeBytes { header in
            (key ?? []).withUnsafeBytes { keyBytes in
              (value ?? []).withUnsafeBytes { valueBytes in
                let item = RecordHeader(name: LentBytes(rebasing: name[..<1]), value: header)
                return withUnsafeTemporaryAllocation(of: RecordHeader.self, capacity: 2) { headers in
                  headers.initialize(repeating: item)
                  return String(
                    decoding: lines.line(
                      of: Record(
                        topic: topic, key: key == nil ? nil : keyBytes,
                        value: value == nil ? nil : valueBytes,
                        headers: UnsafeBufferPointer(headers))), as: UTF8.self)
                }
              }
            }
          }
        }
      }
    }
    #expect(
      line(Array("k\"".utf8), Array("{\"n\": 1.0}\n".utf8), Array("v".utf8))
        == #"{"topic":"a.b","key":"k\"","headers":[{"name":"h","value":"v"},{"name":"h","value":"v"}],"#
        + #""value":"{\"n\": 1.0}\n"}"# + "\n")
    #expect(
      line([0xFF], [0, 0xFF, 0x10, 0x20], [0xC3])
        == #"{"topic":"a.b","key_base64":"/w==","headers":[{"name":"h","value_base64":"ww=="},"#
        + #"{"name":"h","value_base64":"ww=="}],"value_base64":"AP8QIA=="}"# + "\n")
    #expect(
      line(nil, nil, [])
        == #"{"topic":"a.b","key":null,"headers":[{"name":"h","value":""},{"name":"h","value":""}],"value":null}"#
        + "\n")
    #expect(line([], [], []).hasSuffix(#""value":""}"# + "\n"))
  }

  // MARK: Times

  @Test(arguments: [
    ("2000-01-01T00:00:00Z", Int64(0)), ("2000-01-01 00:00:00Z", 0), ("2000-01-01t00:00:00z", 0),
    ("2000-01-01T02:30:00+02:30", 0), ("1999-12-31T19:00:00-05:00", 0),
    ("2000-02-29T00:00:00Z", 5_097_600_000_000), ("2000-01-01T00:00:00.5Z", 500_000),
    ("2000-01-01T00:00:00.1234567899Z", 123_456), ("1970-01-01T00:00:00Z", -946_684_800_000_000),
    ("2000-01-01T00:00:60Z", 60_000_000), ("9999-12-31T23:59:59.999999Z", RFC3339.end - 1),
    ("0001-01-01T00:00:00Z", RFC3339.lowest),
  ])
  func `a time is read in each of its forms`(text: String, time: Int64) throws {
    #expect(try RFC3339.parse(text) == time)
  }

  @Test(arguments: [
    "", "2000", "2000-01-01", "2000-13-01T00:00:00Z", "2000-00-01T00:00:00Z", "1999-02-29T00:00:00Z",
    "2000-01-01T24:00:00Z", "2000-01-01T00:60:00Z", "2000-01-01T00:00:61Z", "2000-01-01T00:00:00.Z",
    "2000-01-01T00:00:00+2:30", "2000-01-01T00:00:00Zx", "2000-01-01T00:00Z", "0000-01-01T00:00:00Z",
    "２000-01-01T00:00:00Z", "2000-01-01T00:00:00+24:00", "-200-01-01T00:00:00Z",
  ])
  func `what is no time is refused`(text: String) {
    #expect(throws: RFC3339.ParseFault.malformed) { try RFC3339.parse(text) }
  }

  @Test func `a time without a zone is told from what is no time`() {
    for text in ["2000-01-01T00:00:00", "2000-01-01 00:00:00.25"] {
      #expect(throws: RFC3339.ParseFault.noZone) { try RFC3339.parse(text) }
    }
  }

  @Test func `every time that is written is read as the same`() throws {
    let seed = freshSeed()
    print("times seed \(seed)")
    var random = SeededGenerator(seed: seed)
    for _ in 0..<5_000 {
      let time = Int64.random(in: RFC3339.lowest..<RFC3339.end, using: &random)
      #expect(try RFC3339.parse(RFC3339.string(microseconds: time)) == time)
    }
  }
}
