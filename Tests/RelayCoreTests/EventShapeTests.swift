// A shape reads back what it has written, from any row.
import Testing

@testable import RelayCore

private struct Values {
  var id: String
  var type: String
  var subject: String
  var region: String
  var payload: String?
  var headers: String

  init(_ random: inout SeededGenerator) {
    func text(_ pieces: [String], _ random: inout SeededGenerator) -> String {
      (0..<Int.random(in: 1...6, using: &random)).map { _ in pieces.randomElement(using: &random)! }.joined()
    }
    let pieces = ["a", "\"", "\\", "é", "𐍈", " ", "id", "}", "\":\"", "/", "0123456789abcdef"]
    id = text(pieces, &random)
    type = text(pieces, &random)
    subject = text(pieces, &random)
    region = text(["a", "-", "/", "%20", "ü", " "], &random)
    // The same names again, where they must not count.
    payload = random.chance(4) ? nil : #"{"id":"x","source":"y","type":"z","time":"t","sequence":"s"}"#
    headers = random.chance(2) ? "{}" : #"{"id":"x","X-type":"y","trace":"\"sequence\":"}"#
  }

  var row: Row {
    Row([
      .text(id), .text("order"), .text(subject), .text(type), payload.map { .text($0) } ?? .null,
      .text(region), .text(headers),
    ])
  }
}

private let shape = relation([
  ("id", .text), ("aggregatetype", .text), ("aggregateid", .text), ("type", .text), ("payload", .json),
  ("region", .text), ("headers", .text),
])

/// The text that a JSON string stands for.
private func unescaped(_ text: String) throws -> String {
  var arena = ByteArena()
  return try Array("\"\(text)\"".utf8).withUnsafeBytes { bytes in
    String(decoding: try #require(JSONScanner.unescaped(bytes, into: &arena)), as: UTF8.self)
  }
}

@Suite struct EventShapeTests {
  @Test(arguments: OutboxMapping.ContentMode.allCases)
  func `a shape reads back what it has written`(mode: OutboxMapping.ContentMode) throws {
    let seed = freshSeed()
    print("event shapes: seed \(seed)")
    var random = SeededGenerator(seed: seed)
    var mapping = OutboxMapping()
    mapping.contentMode = mode
    mapping.source = try Template("/shop/{region}")
    mapping.topic = try Template("orders")
    var encoder = EventEncoder(mappings: [mapping], database: "shop")
    encoder.prepare(shape)
    for _ in 0..<500 {
      let values = Values(&random)
      let row = values.row
      let place = EventSequence(
        commitLSN: LSN(.random(in: 0 ... .max, using: &random)),
        index: .random(in: 0 ... .max, using: &random))
      let time = Int64.random(in: 0...900_000_000_000_000, using: &random)
      let record = try #require(
        try encoder.encode(
          row.view, commitLSN: place.commitLSN, commitTime: time, index: place.index))
      #expect(EventShape(of: record) == EventShape(mode))
      #expect(EventSequence(of: record) == place)
      func read(_ attribute: EventAttribute) throws -> String {
        let text = try #require(EventShape.text(of: attribute, in: record))
        return mode == .binary ? text : try unescaped(text)
      }
      #expect(try read(.id) == values.id, "seed \(seed)")
      #expect(try read(.type) == values.type, "seed \(seed)")
      #expect(try read(.subject) == values.subject, "seed \(seed)")
      #expect(try read(.time) == RFC3339.string(microseconds: time))
      #expect(try read(.source).hasPrefix("/shop/"))
      #expect(try CloudEventRules.isURIReference(read(.source)))
    }
  }

  @Test func `what is no event has no attributes`() {
    func attribute(_ contentType: String, _ value: String) -> String? {
      message([("content-type", contentType)], value) { EventShape.text(of: .id, in: $0) }
    }
    #expect(attribute("application/cloudevents+json", #"{"id":"a"}"#) == "a")
    #expect(
      attribute("Application/CloudEvents+JSON; charset=UTF-8", #" { "x":{"id":"b"},"id" : "a" } "#) == "a")
    #expect(attribute("application/cloudevents-batch+json", #"[{"id":"a"}]"#) == nil)
    for value in ["", "{", "[]", "null", #"{"id":1}"#, #"{"id":"a"#, #"{"ce_id":"a"}"#, #"{"idx":"a"}"#] {
      #expect(attribute("application/cloudevents+json", value) == nil, "\(value)")
      #expect(attribute("application/json", value) == nil, "\(value)")
    }
    #expect(message([("ce_id", "a"), ("ce_id", "b")], nil) { EventShape.text(of: .id, in: $0) } == "a")
    #expect(message([], #"{"id":"a"}"#) { EventShape.text(of: .id, in: $0) } == nil)
  }
}
