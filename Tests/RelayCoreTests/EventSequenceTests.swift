import Testing

@testable import RelayCore

private func sequence(_ text: String) -> EventSequence? {
  Array(text.utf8).withUnsafeBytes { EventSequence($0) }
}

private func structured(_ text: String) -> EventSequence? {
  message([("content-type", "application/cloudevents+json; charset=UTF-8")], text) { EventSequence(of: $0) }
}

@Suite struct EventSequenceTests {
  static let text = "0000000116b374d8-0000002a"
  static let value = EventSequence(commitLSN: LSN(0x1_16B3_74D8), index: 42)

  @Test func `it is read as the encoder has written it, in both modes`() throws {
    for isStructured in [false, true] {
      var mapping = OutboxMapping()
      mapping.contentMode = isStructured ? .structured : .binary
      var encoder = EventEncoder(mappings: [mapping], database: "shop")
      encoder.prepare(outboxRelation())
      let row = outboxRow()
      let record = try #require(
        try encoder.encode(row.view, commitLSN: LSN(0x1_16B3_74D8), commitTime: 0, index: 42))
      #expect(EventSequence(of: record) == Self.value)
    }
  }

  @Test(arguments: [
    "", "1", "0000000116b374d80000002a", "0000000116B374D8-0000002A", "0000000116b374d8-0000002g",
    "0000000116b374d8_0000002a", "0000000116b374d8-0000002a ", "+000000116b374d8-0000002a",
  ])
  func `another form is none`(text: String) {
    #expect(sequence(text) == nil)
    #expect(structured(#"{"sequence":"\#(text)"}"#) == nil)
  }

  @Test func `it is found at the top of an envelope only, wherever it stands`() {
    let text = Self.text
    #expect(structured(#" { "data" : {"sequence":"x"} , "sequence" : "\#(text)" } "#) == Self.value)
    #expect(structured(#"{"sequence":"\#(text)","data":"#) == Self.value)
    #expect(structured(#"{"data":{"sequence":"\#(text)"}}"#) == nil)
    #expect(structured(#"{"sequence":17,"a":"\#(text)"}"#) == nil)
    #expect(structured(#"["sequence","\#(text)"]"#) == nil)
    for cut in 0...20 { #expect(structured(String(#"{"a":[1],"sequence":"\#(text)"#.prefix(cut))) == nil) }
    #expect(structured("") == nil)
  }

  @Test func `it is ordered by commit, then by row`() {
    let small = EventSequence(commitLSN: LSN(1), index: 9)
    #expect(small < EventSequence(commitLSN: LSN(2), index: 0))
    #expect(small < EventSequence(commitLSN: LSN(1), index: 10))
    #expect(!(small < small))
  }
}
