// Which topics events may go to, and that no row, mapping or job leads to another one.
import Testing

@testable import RelayCore

@Suite struct AllowedTopicsTests {
  @Test(
    arguments: [
      ([], "billing.secret", nil), ([], "__consumer_offsets", .isInternal), ([], "__x", .isInternal),
      ([], "_x", nil), ([], "_", nil), ([], "", .name), ([], "a b", .name), ([], "..", .name),
      (["*"], "__transaction_state", .isInternal), (["*"], "a", nil),
      (["orders"], "orders", nil), (["orders"], "orders.x", .notAllowed),
      (["orders"], "xorders", .notAllowed),
      (["orders.*"], "orders.x", nil), (["orders.*"], "orders.", nil), (["orders.*"], "orders", .notAllowed),
      (["orders.*"], "ordersX", .notAllowed), (["*.v1"], "orders.v1", nil),
      (["*.v1"], "orders.v11", .notAllowed),
      (["a*b*c"], "abc", nil), (["a*b*c"], "axbxbxc", nil), (["a*b*c"], "axbxbx", .notAllowed),
      (["a**"], "a", nil), (["x", "y*"], "yes", nil), (["x", "y*"], "no", .notAllowed),
    ] as [([String], String, TopicFault?)])
  func `a pattern holds for the whole name, and internal topics match none`(
    patterns: [String], topic: String, fault: TopicFault?
  ) {
    #expect(AllowedTopics(patterns).fault(topic) == fault)
  }

  @Test func `a pattern of many stars takes no more than its length times the topic's`() {
    let pattern = String(repeating: "*a", count: 100) + "b"
    let start = MonotonicTime.now()
    for _ in 0..<100 {
      #expect(AllowedTopics([pattern]).fault(String(repeating: "a", count: 249)) == .notAllowed)
    }
    #expect(MonotonicTime.now().nanoseconds - start.nanoseconds < 5_000_000_000)
  }

  private func encoder(_ topic: String, _ patterns: [String], options: RelayOptions = RelayOptions()) throws
    -> EventEncoder
  {
    var mapping = OutboxMapping()
    mapping.topic = try Template(topic)
    mapping.allowedTopics = AllowedTopics(patterns)
    var encoder = EventEncoder(mappings: [mapping], database: "shop", options: options)
    encoder.prepare(outboxRelation())
    return encoder
  }

  private func fault(_ encoder: inout EventEncoder) -> RelayError? {
    let row = outboxRow()
    defer { withExtendedLifetime(row) {} }
    do {
      _ = try encoder.encode(row.view, commitLSN: LSN(1), commitTime: 0, index: 0)
      return nil
    } catch {
      return error
    }
  }

  @Test func `a row, a mapping and a job that lead elsewhere are refused, each time`() throws {
    var byRow = try encoder("x.{aggregatetype}", ["y.*"])
    for _ in 0..<2 {
      let found = fault(&byRow)
      let error = try #require(found)
      #expect(error.kind == .rowRejected)
      #expect(
        error.message.contains(#"topic: "x.order" is not among kafka.allowed_topics"#), "\(error.message)")
      #expect(error.remedy?.contains("kafka.allowed_topics") == true)
    }
    var allowed = try encoder("x.{aggregatetype}", ["x.*"])
    let none = fault(&allowed)
    #expect(none == nil)
    var toInternal = try encoder("__{aggregatetype}", [])
    let isInternal = fault(&toInternal)
    #expect(isInternal?.message.contains("is an internal topic of Kafka") == true)
    var byMapping = try encoder("{database}.events", ["orders.*"])
    let ofMapping = fault(&byMapping)
    #expect(ofMapping?.kind == .configurationInvalid)
    var byJob = try encoder("x", ["x"], options: RelayOptions(topic: "billing.secret"))
    let ofJob = fault(&byJob)
    let error = try #require(ofJob)
    #expect(error.kind == .configurationInvalid)
    #expect(error.message.contains("billing.secret"))
  }
}
