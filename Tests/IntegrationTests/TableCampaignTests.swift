// Owns: the seeded campaign of what comes from tables: how many seeds, on which servers.
// Must not know: what a seed does.
import Foundation
import RelayTesting
import Testing

extension Integration {
  /// OUTBOXD_TEST_SEED=N repeats one seed and tells what it does, OUTBOXD_CAMPAIGN_SEEDS=N runs so many.
  @Suite struct TableCampaignTests {
    @Test func `whatever befalls outbox tables, no read of them loses, invents, reorders or conceals`() throws
    {
      let environment = ProcessInfo.processInfo.environment
      let given = environment["OUTBOXD_TEST_SEED"].flatMap { UInt64($0) }
      let count = given != nil ? 1 : environment["OUTBOXD_CAMPAIGN_SEEDS"].flatMap { Int($0) } ?? 3
      let first = given ?? UInt64.random(in: 1..<1_000_000)
      let versions = [PostgresServer.versions.first, PostgresServer.versions.last].compactMap(\.self)
      let kafka = try KafkaCluster.shared()
      var servers: [Int: PostgresServer] = [:]
      for seed in first..<first + UInt64(count) {
        // The seed decides everything, also where a run begins with another one.
        let version = versions[Int(seed) % versions.count]
        let server = try servers[version] ?? PostgresServer(version: version)
        if servers.updateValue(server, forKey: version) == nil {
          try server.sql("CREATE ROLE outboxd LOGIN REPLICATION")
        }
        try server.set(["track_commit_timestamp": seed / 2 % 2 == 0 ? "on" : "off"])
        try server.restart()
        let begin = Date()
        let campaign = try Campaign(seed: seed, server: server, kafka: kafka)
        var verdict = ""
        do {
          try campaign.run()
          verdict = try campaign.judge()
        } catch {
          campaign.fault("\(error)")
        }
        try campaign.clean()
        TestTools.say(
          "campaign: OUTBOXD_TEST_SEED=\(seed): \(verdict), \(Int(Date().timeIntervalSince(begin))) s")
        if given != nil { campaign.world.history.forEach { TestTools.say($0) } }
        #expect(
          campaign.faults.isEmpty,
          "OUTBOXD_TEST_SEED=\(seed)\n\(campaign.world.history.joined(separator: "\n"))")
      }
    }
  }
}
