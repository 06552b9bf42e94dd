// Owns: that the replay window begins with the first event: the anchor is there before the stream is.
import RelayCore
import RelayTesting
import Testing

@testable import PostgresSource

private let ends = [PostgresServer.versions.first, PostgresServer.versions.last].compactMap(\.self)

@Suite(.serialized) struct AnchorStartTests {
  private func anchor(_ database: LiveDatabase) throws -> LSN? {
    LSN(
      try database.sql(
        "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '\(database.settings.slot)_anchor'"
      ))
  }

  private func finish(_ stream: ReplicationStream) {
    stream.finish(flushed: stream.startLSN, deadline: MonotonicTime.now().advanced(milliseconds: 5_000))
  }

  @Test(arguments: ends) func theAnchorIsThereBeforeTheFirstEventIsRead(version: Int) throws {
    let server = try PostgresServer(version: version)
    for hasSlot in [false, true] {
      let database = try LiveDatabase(server)
      database.settings.replayWindow = 3600
      if hasSlot { try database.createSlot() }
      // Its own thread looks after it in a minute for the first time.
      let stream = try database.open(try database.keeper(anchorInterval: 60_000))
      let position = try #require(try anchor(database))
      #expect(position <= stream.startLSN)
      try database.insert()
      _ = try stream.read(rows: 1)
      finish(stream)
    }
  }

  @Test func anAnchorThatCannotBeMadeHoldsNoRelayBack() throws {
    let server = try PostgresServer(settings: ["max_replication_slots": "1"])
    let database = try LiveDatabase(server)
    database.settings.replayWindow = 3600
    let keeper = try database.keeper(anchorInterval: 60_000)
    let stream = try database.open(keeper)
    try database.insert()
    _ = try stream.read(rows: 1)
    #expect(try anchor(database) == nil && keeper.anchorDropTime != nil)
    finish(stream)
  }

  @Test func anAnchorThatWasGivenUpIsNotMadeAgainByAReconnect() throws {
    let database = try LiveDatabase(try PostgresServer())
    database.settings.replayWindow = 3600
    let keeper = try database.keeper(anchorInterval: 60_000)
    keeper.anchorDropTime = .now()
    let stream = try database.open(keeper)
    #expect(try anchor(database) == nil)
    finish(stream)
  }
}
