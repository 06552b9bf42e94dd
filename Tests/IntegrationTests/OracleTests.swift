// Owns: that the judge of all other tests judges.
import RelayTesting
import Testing

/// The judge is judged first: its own tests break one thing each, and expect to be told of it.
@Suite(.enabled(if: TestTools.hasOracle, "needs Tests/setup"))
struct OracleTests {
  @Test func `the oracle and the checker find every kind of fault`() throws {
    let result = try ChildProcess.run([
      "sh", "-c", "cd \"$1\" && exec \"$2\" -B -m unittest test_oracle", "sh", Workload.folder,
      TestTools.python,
    ])
    #expect(result.status == 0, "\(result.errors)")
    #expect(result.errors.contains("OK"))
  }
}
