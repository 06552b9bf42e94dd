// Owns: the kind of a failure by its SQLSTATE.
// Must not know: where statements run.
import RelayCore
import Testing

@testable import PostgresSource

@Suite struct PostgresFailureTests {
  @Test(arguments: [
    ("55006", "replication slot \"s\" is active for PID 4711", RelayError.Kind.slotActive),
    ("42704", "replication slot \"s\" does not exist", .slotMissing),
    ("42704", "publication \"p\" does not exist", .publicationMissing),
    ("55000", "cannot read from logical replication slot \"s\"", .slotLost),
    ("55000", "can no longer access replication slot \"s\"", .slotLost),
    ("55000", "replication slot \"s\" was not created in this database", .slotUnsuitable),
    ("55000", "logical decoding requires wal_level >= logical", .serverUnsuitable),
    ("58P01", "requested WAL segment 000000010000000000000001 has already been removed", .slotLost),
    ("57P01", "terminating connection due to administrator command", .sourceUnavailable),
    ("57P03", "the database system is starting up", .sourceUnavailable),
    ("53300", "number of requested standby connections exceeds max_wal_senders", .sourceUnavailable),
    ("42501", "must be superuser or replication role to start walsender", .sourceDenied),
    ("28P01", "password authentication failed for user \"x\"", .sourceDenied),
    ("3D000", "database \"x\" does not exist", .sourceDenied),
    ("XX000", "could not map filenode", .serverUnsuitable),
    ("08006", "connection failure", .sourceUnavailable),
  ])
  func everySQLSTATEHasItsKind(state: String, message: String, kind: RelayError.Kind) {
    let context = FailureContext(phase: .start, slot: "s", publication: "p", target: "h:5432/app")
    let error = PostgresFailure.relayError(ServerMessage(sqlstate: state, message: message), context)
    #expect(error.kind == kind)
    #expect(error.code == state)
    #expect(kind != .slotActive || error.message.contains("4711"))
  }
}
