// Owns: rows and records that can never be sent: the relay halts at them, and says which.
import Foundation
import RelayTesting
import Testing

extension Integration {
  @Suite struct RejectionTests {
    /// The relay stops at the row, says which, and every event before it is delivered and none after it.
    private func expectHalt(
      _ relay: OutboxdProcess, code: Int32, id: String, location: SourceLocation = #_sourceLocation
    ) throws {
      let status = try relay.process.wait(seconds: 60)
      #expect(status == code, "\(relay.tail)", sourceLocation: location)
      let error = relay.log.last { $0.level == "error" }
      #expect(error?.text.contains(id) == true, "no row id in: \(relay.tail)", sourceLocation: location)
      #expect(
        error?.text.contains(/[0-9A-F]+\/[0-9A-F]+/) == true, "no LSN: \(relay.tail)",
        sourceLocation: location)
      #expect(error?.fields["remedy"]?.isEmpty == false, "\(relay.tail)", sourceLocation: location)
    }

    @Test func `a row that makes no valid event halts the relay before it`() throws {
      let scene = try Scene()
      let relay = try scene.start()
      try scene.workload.run(writers: 2, transactions: 10, size: 5, seed: 1)
      let id = "11111111-2222-4333-8444-555555555555"
      try scene.server.sql(
        """
        BEGIN;
        SELECT workload.emit('orders', ARRAY[1, 2], 6);
        INSERT INTO public.outbox VALUES ('\(id)', 'no such/topic', 'a', 't', '{}', 1);
        COMMIT;
        SELECT workload.emit('payments', ARRAY[1, 2], 6);
        """, database: "shop")
      try expectHalt(relay, code: 23, id: id)
      // The same again: nothing was confirmed beyond it.
      try expectHalt(try scene.start(waitUntilReady: false), code: 23, id: id)
      // Missing are the row itself and what was committed after it; each run sent what stands before it in
      // its transaction.
      let verdict = try scene.workload.judge(duplicatesAllowed: true, rewinds: 1)
      #expect(verdict.faults == ["missing": 7], "\(verdict)")
    }

    @Test(.enabled(if: KafkaCluster.isReal, "the embedded broker takes messages of any size"))
    func `a record that is too large halts the relay, and its neighbours are delivered`() throws {
      let scene = try Scene()
      scene.configuration.properties["message.max.bytes"] = "50000"
      let relay = try scene.start()
      let id = "11111111-2222-4333-8444-555555555555"
      try scene.workload.run(writers: 1, transactions: 10, size: 5, seed: 1)
      try scene.server.sql(
        """
        BEGIN;
        SELECT workload.emit('orders', ARRAY[1, 2], 6);
        INSERT INTO public.outbox VALUES ('\(id)', 'order', 'a', 't', to_jsonb(repeat('x', 60000)), 1);
        COMMIT;
        """, database: "shop")
      try expectHalt(relay, code: 24, id: id)
      scene.configuration.properties["message.max.bytes"] = "1000000"
      let verdict = try scene.finish(try scene.start(), duplicatesAllowed: true, rewinds: 1)
      #expect(verdict.ok, "\(verdict)")
    }
  }
}
