// Owns: which events show that another server publishes, and which are of a former history.
import RelayCore
import Testing

@testable import PostgresSource

@Suite struct ServerOriginTests {
  private let minute: PostgresMicroseconds = 60_000_000

  @Test func onlyAnEventBeyondTheWALIsStrange() {
    let origin = ServerOrigin(walEnd: LSN(100))
    #expect(!origin.isStrange(LSN(99), timestamp: nil))
    #expect(origin.isStrange(LSN(100), timestamp: nil))
    #expect(origin.isStrange(LSN(101), timestamp: 5 * minute))
  }

  @Test func whatKafkaGotBeforeAnOperatorSaidSoIsOfAFormerHistory() {
    let origin = ServerOrigin(walEnd: LSN(100), acceptedAt: 10 * minute)
    #expect(!origin.isStrange(LSN(200), timestamp: 10 * minute))
    // The clocks of two hosts differ a little.
    #expect(!origin.isStrange(LSN(200), timestamp: 11 * minute))
    #expect(origin.isStrange(LSN(200), timestamp: 11 * minute + 1))
    #expect(origin.isStrange(LSN(200), timestamp: nil))
    #expect(!ServerOrigin(walEnd: LSN(100), acceptedAt: .max).isStrange(LSN(200), timestamp: .max))
  }
}
