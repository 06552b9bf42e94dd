// Owns: which outbox a row belongs to whose table has another name by now.
import Testing

@testable import RelayCore

@Suite struct RenamedTableTests {
  private func source(_ relation: Relation, _ mappings: [OutboxMapping]) throws -> String? {
    var encoder = EventEncoder(mappings: mappings, database: "shop")
    encoder.prepare(relation)
    let row = outboxRow()
    let record = try encoder.encode(row.view, commitLSN: LSN(1), commitTime: 0, index: 0)
    // What a record lends goes with the row.
    defer { withExtendedLifetime(row) {} }
    return CopiedRecord(try #require(record)).headers.first { $0.hasPrefix("ce_source") }
  }

  @Test func `rows from before a rename keep the source of their time`() throws {
    let renamed = OutboxMapping(table: "outbox_events")
    var relation = outboxRelation()
    #expect(throws: RelayError.self) { try source(relation, [renamed]) }
    relation.outbox = renamed
    #expect(try source(relation, [renamed]) == "ce_source: /shop/public/outbox")
  }

  @Test func `an outbox that has the name of the row's time comes first`() throws {
    var named = OutboxMapping()
    named.source = try Template("/of-that-name")
    var relation = outboxRelation()
    relation.outbox = OutboxMapping(table: "outbox_events")
    #expect(
      try source(relation, [OutboxMapping(table: "outbox_events"), named]) == "ce_source: /of-that-name")
  }
}
