// Plans are of a bounded number, and none is lost whose rows come.
import Testing

@testable import RelayCore

@Suite struct PlanCacheTests {
  private func failure(_ id: UInt32) -> Result<RowPlan, RelayError> { .failure(RelayError(.failed, "\(id)")) }

  private func kind(_ cache: inout PlanCache, _ id: UInt32) -> RelayError.Kind? {
    do throws(RelayError) {
      _ = try cache.plan(of: id)
      return nil
    } catch {
      return error.kind
    }
  }

  @Test func `tables that come and go leave a bounded number of plans, and those in use stay`() {
    var cache = PlanCache(limit: 100)
    for id in 1...5 { cache.insert(failure(UInt32(id)), for: UInt32(id)) }
    for id in 10...10_000 {
      cache.insert(failure(UInt32(id)), for: UInt32(id))
      // Rows of a few tables, now and then.
      if id % 20 == 0 { for id in 1...5 { #expect(kind(&cache, UInt32(id)) == .failed) } }
      #expect(cache.count <= 100)
    }
    #expect(kind(&cache, 10_000) == .failed)
  }

  @Test func `a shape that was evicted is asked for again, one that never came is a fault of the stream`() {
    var cache = PlanCache(limit: 2)
    cache.insert(failure(1), for: 1)
    #expect(kind(&cache, 7) == .streamMalformed)
    for id in 2...4 { cache.insert(failure(UInt32(id)), for: UInt32(id)) }
    #expect(kind(&cache, 1) == .sourceUnavailable)
    #expect(RelayError.Kind.sourceUnavailable.reaction == .reconnectSource)
    cache.insert(failure(1), for: 1)
    #expect(kind(&cache, 1) == .failed)
  }

  @Test func `a table that is created and dropped over and over does not grow the encoder`() throws {
    var encoder = EventEncoder(mappings: [OutboxMapping()], database: "shop")
    encoder.prepare(outboxRelation())
    for id in 100..<3_000 as Range<UInt32> {
      encoder.prepare(relation([("id", .uuid)], table: "outbox_\(id)", id: id))
      if id % 100 == 0 {
        let row = outboxRow(relationID: 1)
        #expect(try encoder.encode(row.view, commitLSN: LSN(1), commitTime: 0, index: 0) != nil)
      }
    }
    #expect(encoder.plans.count <= 1_002)
  }
}
