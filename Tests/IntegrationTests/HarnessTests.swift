// Owns: that servers, proxy and workload do what the tests believe of them. Needs no outboxd.
import Foundation
import RelayTesting
import Testing

/// The servers and the proxy do what the tests believe of them.
@Suite(.serialized, .enabled(if: TestTools.hasOracle, "needs Tests/setup"))
struct HarnessTests {
  @Test(arguments: PostgresServer.versions)
  func `a Postgres starts, stops both ways, and keeps its data`(version: Int) throws {
    let server = try PostgresServer(version: version)
    #expect(try server.integer("SHOW server_version_num") / 10000 == version)
    try server.sql("CREATE TABLE kept AS SELECT 1 AS n")
    try server.restart(.fast)
    try server.restart(.immediate)
    #expect(try server.sql("SELECT n FROM kept") == "1")
    #expect(throws: HarnessError.self) { try server.sql("SELECT nonsense") }
    try server.stop()
  }

  @Test func `the proxy passes, hangs and cuts`() throws {
    let server = try PostgresServer()
    let proxy = try FaultProxy(target: server.port)
    let query = [
      "psql", "-XAqt", "-d", "host=127.0.0.1 port=\(proxy.port) user=postgres connect_timeout=2", "-c",
      "SELECT 7",
    ]
    #expect(try ChildProcess.run(query).output == "7\n")
    try proxy.command("blackhole")
    #expect(try ChildProcess.run(query).status == 2)
    try proxy.command("pass")
    #expect(try ChildProcess.run(query).output == "7\n")
    try proxy.command("refuse")
    #expect(try ChildProcess.run(query).status == 2)
    try proxy.command("pass")
    try proxy.command("cutafter 1000")
    let large = Array(query.dropLast()) + ["SELECT repeat('x', 1000000)"]
    #expect(try ChildProcess.run(large).status == 2)
  }

  @Test func `the workload's transactions commit, roll back and prepare as it says`() throws {
    let kafka = try KafkaCluster.shared()
    let workload = try Workload(server: PostgresServer(), kafka: kafka)
    try workload.run(transactions: 50, size: 10, seed: 1)
    try workload.runPrepared(8)
    let writers = try workload.startLoad(seed: 1)
    try eventually("the load has written 500 events", within: 30) {
      try workload.server.integer("SELECT count(*) FROM truth.event", database: "shop") > 1500
    }
    try workload.stopLoad(writers)
    // Of each aggregate, every version is there once.
    let gaps = """
      SELECT count(*) FROM (SELECT source, key, count(*) AS n, max(version) AS last FROM truth.event GROUP BY 1, 2) k
      WHERE n <> last
      """
    #expect(try workload.server.sql(gaps, database: "shop") == "0")
    // Nothing was delivered: the oracle must miss every event.
    let verdict = try workload.judge()
    #expect(!verdict.ok)
    #expect(verdict.faults == ["missing": verdict.committed])
  }
}
