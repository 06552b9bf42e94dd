// Owns: the order and the places of rows by their time column, with times of every kind.
import Foundation
import RelayCore
import RelayTesting
import Testing

@testable import PostgresSource

private let ends = [PostgresServer.versions.first, PostgresServer.versions.last].compactMap(\.self)

@Suite(.serialized) struct TableTimeTests {
  private static let times = [
    "'infinity'", "'-infinity'", "NULL", "'294276-12-31 23:59:59.999999'", "'294276-12-31 23:59:59.999998'",
    "'4714-11-24 00:00:00 BC'", "'4714-11-24 00:00:00.000001 BC'", "'9999-12-31 23:59:59.999999'",
    "'10000-01-01'", "'0001-01-01'", "'2285-06-05 23:47:34.740993'", "'2285-06-05 23:47:34.740992'",
    "'200000-01-01 00:00:00.000001'", "'200000-01-01 00:00:00.000002'", "'2026-11-01 01:30:00'",
    "'2026-11-01 02:30:00'", "'2026-03-08 02:30:00'", "'2026-03-08 03:30:00'",
  ]

  /// The labels of the rows that a statement of `TableQuery` gives, and their places.
  private func read(
    _ query: TableQuery, after place: TablePlace?, _ connection: SQLConnection
  ) throws -> [(label: String, place: TablePlace)] {
    let start = place.map {
      TablePlace.Parsed(table: "public.outbox", storage: "", horizon: 1 << 40, place: $0)
    }
    let send = query.shape.time?.isMoment == true ? "timestamptz_send" : "timestamp_send"
    let result = try connection.query(
      """
      SELECT label, ('x' || encode(\(send)(k), 'hex'))::bit(64)::bigint AS k
      FROM (\(query.select(after: start))) AS rows (label, at, k)
      """)
    return try result.rows.indices.map { row in
      func number(_ name: String) throws -> Int64 { try #require(result[row, name].flatMap { Int64($0) }) }
      return (
        try #require(result[row, "label"]),
        TablePlace(commitTime: nil, second: try number("k"))
      )
    }
  }

  @Test(arguments: ends)
  func `reading goes on after any row, whatever the time in it`(version: Int) throws {
    let server = try PostgresServer(version: version, settings: ["track_commit_timestamp": "off"])
    for (type, zone) in [
      ("timestamp", nil), ("timestamptz", nil), ("timestamp", "America/New_York"),
      ("timestamp", "Asia/Kolkata"),
    ] as [(String, String?)] {
      let database = try LiveDatabase(server)
      try database.sql(
        """
        DROP TABLE outbox CASCADE; CREATE TABLE outbox (label text, created_at \(type));
        SET TimeZone = 'UTC';
        INSERT INTO outbox SELECT n::text, t FROM unnest(ARRAY[\(Self.times.joined(separator: ", "))]::\(type)[])
          WITH ORDINALITY AS x (t, n);
        GRANT SELECT ON outbox TO outboxd
        """)
      var mapping = OutboxMapping()
      mapping.columns.timeZone = try zone.map { try TimeZoneDatabase.rules($0) }
      let connection = try SQLConnection(database.settings, stop: database.stop)
      let shape = try TableCatalog(connection: connection, settings: database.settings, publication: nil)
        .shape(mapping)
      var query = TableQuery(
        shape: shape, range: TableRange(), tracksCommitTimes: false, nextTransaction: 1 << 20)
      let whole = try read(query, after: nil, connection)
      #expect(Set(whole.map(\.label)).count == Self.times.count)
      for row in whole {
        let rest = try read(query, after: row.place, connection)
        // From the first row of that time on.
        let expected = whole.drop { $0.place != row.place }
        #expect(rest.map(\.label) == expected.map(\.label), "\(type) \(zone ?? "") after \(row)")
      }
      // What may be from then on, and what has no time.
      var range = TableRange()
      range.since = try RFC3339.parse("2026-11-01T06:30:00Z")
      query = TableQuery(shape: shape, range: range, tracksCommitTimes: false, nextTransaction: 1 << 20)
      let later = Set(try read(query, after: nil, connection).map(\.label))
      #expect(later.isSuperset(of: ["1", "3", "4", "8", "11"]), "\(type) \(zone ?? "")")
      #expect(later.isDisjoint(with: ["2", "6", "10", "17", "18"]), "\(type) \(zone ?? "")")
      // 01:30 comes twice in New York: Postgres takes it for the later one, which is 06:30 in UTC.
      #expect(later.contains("15") == (zone == "America/New_York"))
      #expect(later.contains("16") == (zone == "America/New_York"))
    }
  }
}
