// Owns: that every SQLSTATE of PostgreSQL 18 has a verdict and a reason, and what becomes of it in each place.
import RelayCore
import Testing

@testable import PostgresSource

/// Every code of `src/backend/utils/errcodes.txt` of PostgreSQL 18.
private let postgres18 = """
  00000
  01000 0100C 01008 01003 01007 01006 01004 01P01
  02000 02001
  03000
  08000 08003 08006 08001 08004 08007 08P01
  09000
  0A000
  0B000
  0F000 0F001
  0L000 0LP01
  0P000
  0Z000 0Z002
  10608
  20000
  21000
  22000 2202E 22021 22008 22012 22005 2200B 22022 22015 2201E 22014 22016 2201F 2201G 22018 22007 22019
  2200D 22025 22P06 22010 22023 22013 2201B 2201W 2201X 2202H 2202G 22009 2200C 2200G 22004 22002 22003
  2200H 22026 22001 22011 22027 22024 2200F 22P01 22P02 22P03 22P04 22P05 2200L 2200M 2200N 2200S 2200T
  22030 22031 22032 22033 22034 22035 22036 22037 22038 22039 2203A 2203B 2203C 2203D 2203E 2203F 2203G
  23000 23001 23502 23503 23505 23514 23P01
  24000
  25000 25001 25002 25008 25003 25004 25005 25006 25007 25P01 25P02 25P03 25P04
  26000
  27000
  28000 28P01
  2B000 2BP01
  2D000
  2F000 2F005 2F002 2F003 2F004
  34000
  38000 38001 38002 38003 38004
  39000 39001 39004 39P01 39P02 39P03
  3B000 3B001
  3D000
  3F000
  40000 40002 40001 40003 40P01
  42000 42601 42501 42846 42803 42P20 42P19 42830 42602 42622 42939 42804 42P18 42P21 42P22 42809 428C9
  42703 42883 42P01 42P02 42704 42701 42P03 42P04 42723 42P05 42P06 42P07 42712 42710 42702 42725 42P08
  42P09 42P10 42611 42P11 42P12 42P13 42P14 42P15 42P16 42P17
  44000
  53000 53100 53200 53300 53400
  54000 54001 54011 54023
  55000 55006 55P02 55P03 55P04
  57000 57014 57P01 57P02 57P03 57P04 57P05
  58000 58030 58P01 58P02 58P03
  F0000 F0001
  HV000 HV005 HV002 HV010 HV021 HV024 HV007 HV008 HV004 HV006 HV091 HV00B HV00C HV00D HV090 HV00A HV009
  HV014 HV001 HV00P HV00J HV00K HV00Q HV00R HV00L HV00M HV00N
  P0000 P0001 P0002 P0003 P0004
  XX000 XX001 XX002
  """

private let states = postgres18.split(whereSeparator: \.isWhitespace).map(String.init)

private func error(
  _ state: String?, _ phase: FailureContext.Phase, _ message: String = "the message", transaction: LSN? = nil
) -> RelayError {
  PostgresFailure.relayError(
    ServerMessage(sqlstate: state, message: message),
    FailureContext(
      phase: phase, slot: "s", publication: "p", target: "h:5432/app", transaction: transaction))
}

private func connecting(_ text: String) -> RelayError { ConnectionFailure(text).error(target: "h:5432/app") }

private let phases: [FailureContext.Phase] = [.sql, .rows("public.outbox"), .start, .stream]

@Suite struct SQLStateTests {
  @Test func `every code of Postgres 18 has a rule with a reason`() {
    #expect(states.count == 262)
    for state in states {
      let rule = SQLStateRule.of(state)
      #expect(rule != nil, "\(state)")
      #expect(rule?.reason.isEmpty == false, "\(state)")
    }
    let classes = Set(states.map { String($0.prefix(2)) })
    #expect(Set(SQLStateRule.all.map(\.code)) == classes)
    for exception in SQLStateRule.exceptions { #expect(states.contains(exception.code), "\(exception.code)") }
  }

  @Test func `whatever halts the relay says what to do`() {
    for state in states + ["ZZ999"] {
      for phase in phases {
        let error = error(state, phase, transaction: LSN(0x200))
        #expect(error.code == state)
        switch error.kind.reaction {
        case .halt, .applyPolicy: #expect(error.remedy?.isEmpty == false, "\(state) \(phase): \(error)")
        default: break
        }
      }
      let refused = connecting("FATAL:  \(state): the message")
      #expect(refused.kind.reaction == .reconnectSource, "a login is retried: \(state)")
      #expect(refused.code == state && !refused.message.contains(state), "\(refused)")
      #expect(refused.remedy?.contains("host and port") != true || state == "08P01", "\(refused)")
      #expect(refused.kind != .sourceDenied || refused.remedy?.isEmpty == false, "\(refused)")
    }
  }

  /// The default halts: what heals by itself is named, and nothing else is retried.
  @Test func `only what ends by itself is retried in the stream`() {
    let retried = states.filter { error($0, .stream).kind.reaction == .reconnectSource }
    let classes = Set(retried.map { String($0.prefix(2)) })
    #expect(classes == ["08", "25", "28", "3D", "40", "42", "53", "55", "57", "58", "F0"])
    #expect(retried.filter { $0.hasPrefix("42") } == ["42501"])
    #expect(retried.filter { $0.hasPrefix("25") }.sorted() == ["25006", "25P03", "25P04"])
    #expect(retried.filter { $0.hasPrefix("55") } == ["55P03"])
    #expect(!retried.contains("08P01") && !retried.contains("58P01") && retried.contains("57P01"))
    #expect(error("ZZ999", .stream).kind == .serverUnsuitable)
  }

  @Test(arguments: ["22021", "22P05", "54000"])
  func `a value that cannot be sent halts with its transaction`(state: String) {
    let error = error(state, .stream, transaction: LSN(0x200))
    #expect(error.kind == .rowRejected && error.commitLSN == LSN(0x200))
    #expect(error.message.contains("\"s\"") && error.message.contains("0/200"), "\(error)")
    let ofTable = PostgresSourceTests.error(state, .rows("public.outbox"))
    #expect(ofTable.kind == .rowRejected && ofTable.message.contains("public.outbox"), "\(ofTable)")
    #expect(PostgresSourceTests.error(state, .sql).kind == .serverUnsuitable)
  }

  @Test
  func `an internal error is retried where the catalog may have moved, and halts at a place of the WAL`() {
    #expect(error("XX000", .sql, "cache lookup failed for relation 1").kind == .sourceUnavailable)
    let halted = error("XX000", .stream, "could not map filenode", transaction: LSN(0x200))
    #expect(halted.kind == .serverUnsuitable && halted.commitLSN == LSN(0x200))
    #expect(halted.remedy?.contains("outboxd recover --tables") == true)
    let large = error(
      "XX000", .stream, "invalid memory alloc request size 1258291203", transaction: LSN(0x200))
    #expect(large.kind == .rowRejected && large.commitLSN == LSN(0x200))
  }

  @Test func `a missing file is a lost slot only where it is WAL`() {
    let segment = "das angeforderte WAL-Segment 00000001000000000000000A wurde schon entfernt"
    #expect(error("58P01", .stream, segment).kind == .slotLost)
    #expect(error("58P01", .start, segment).kind == .slotLost)
    let library = error("58P01", .start, "could not access file \"pgoutput\": No such file or directory")
    #expect(library.kind == .serverUnsuitable)
    #expect(error("58P01", .sql, segment).kind == .sourceUnavailable)
  }

  @Test(arguments: [
    ("idle_timeout", "idle_replication_slot_timeout"), ("wal_removed", "max_slot_wal_keep_size"),
    ("rows_removed", "hot_standby_feedback"), ("wal_level_insufficient", "wal_level = 'logical'"),
  ])
  func `a lost slot has the remedy of its reason`(reason: String, words: String) {
    let message = ServerMessage(
      sqlstate: "55000", message: "can no longer access replication slot \"s\"",
      detail: "This replication slot has been invalidated due to \"\(reason)\".")
    let context = FailureContext(phase: .start, slot: "s", publication: "p", target: "h:5432/app")
    let error = PostgresFailure.relayError(message, context)
    #expect(error.kind == .slotLost)
    #expect(error.remedy?.contains(words) == true && error.remedy?.contains("outboxd recover") == true)
    for other in ["idle_replication_slot_timeout", "max_slot_wal_keep_size", "hot_standby_feedback"]
    where other != words { #expect(error.remedy?.contains(other) == false, "\(error)") }
  }

  @Test func `out of memory says how much is needed`() {
    let text =
      "cannot allocate memory for input buffer\nlost synchronization with server: got message type \"d\", length 629145600"
    for phase in phases {
      let error = error(nil, phase, text)
      #expect(error.kind == .sourceUnavailable && error.message.contains("629145600"))
      #expect(error.remedy?.contains("the size of the largest row") == true, "\(error)")
    }
    #expect(error(nil, .stream, "server closed the connection unexpectedly").remedy == nil)
  }

  @Test func `servers before 15 are refused`() {
    #expect(PostgresFailure.version(150_000, target: "h") == nil)
    let error = PostgresFailure.version(140_022, target: "h:5432/app")
    #expect(error?.kind == .serverUnsuitable && error?.message.contains("14.22") == true)
  }
}

@Suite struct ConnectionFailureTests {
  /// As libpq gives them with PQERRORS_VERBOSE: from servers of 15 and 18, and from PgBouncer 1.18.
  @Test(arguments: [
    (
      "FATAL:  53300: too many connections for role \"x\"\nLOCATION:  InitializeSessionUserId, miscinit.c:821",
      RelayError.Kind.sourceUnavailable, "CONNECTION LIMIT"
    ),
    ("FATAL:  08P01: unsupported startup parameter: replication", .sourceDenied, "directly"),
    ("FATAL:  28P01: password authentication failed for user \"x\"", .sourceDenied, "postgres.password_file"),
    (
      "FATAL:  28P01: Passwort-Authentifizierung für Benutzer »x« fehlgeschlagen", .sourceDenied,
      "postgres.password_file"
    ),
    ("FATAL:  28000: role \"x\" is not permitted to log in", .sourceDenied, "WITH LOGIN"),
    (
      "FATAL:  42501: permission denied to start WAL sender\nDETAIL:  Only roles with …", .sourceDenied,
      "WITH REPLICATION"
    ),
    ("FATAL:  3D000: database \"x\" does not exist", .sourceDenied, "dbname"),
    (
      "FATAL:  55000: database \"x\" is not currently accepting connections", .sourceDenied,
      "ALLOW_CONNECTIONS"
    ),
    ("FATAL:  P0001: no", .sourceDenied, "login trigger"),
    ("FATAL:  22023: invalid value for parameter \"x\"", .sourceDenied, "postgres.conninfo"),
  ])
  func `a FATAL of a server that answered is not unreachable`(
    text: String, kind: RelayError.Kind, words: String
  ) {
    let error = connecting("connection to server at \"127.0.0.1\", port 5432 failed: " + text)
    #expect(error.kind == kind)
    #expect(error.remedy?.contains(words) == true, "\(error)")
    #expect(error.remedy?.contains("host and port") != true || words == "directly", "\(error)")
    #expect(!error.message.contains("LOCATION"), "\(error)")
    #expect(error.code?.utf8.count == 5)
  }

  @Test func `a server that starts or stops is waited for without advice`() {
    let error = connecting("FATAL:  57P03: the database system is shutting down\nLOCATION:  x, y.c:1\n")
    #expect(error.kind == .sourceUnavailable && error.code == "57P03" && error.remedy == nil)
  }

  @Test func `of several hosts the one decides that a person must see to`() {
    let error = connecting(
      """
      connection to server at "a", port 5432 failed: FATAL:  28P01: password authentication failed
      LOCATION:  auth_failed, auth.c:335
      connection to server at "b", port 5432 failed: FATAL:  57P03: the database system is starting up
      LOCATION:  ProcessStartupPacket, backend_startup.c:390
      """)
    #expect(error.kind == .sourceDenied && error.code == "28P01")
    #expect(error.message.contains("starting up"))
  }

  @Test(arguments: [
    ("connection to server at \"127.0.0.1\", port 1 failed: Connection refused", "host and port"),
    ("could not translate host name \"db\" to address: Name or service not known", "name server"),
    ("connection to server at \"a\", port 5432 failed: session is read-only", "promoted"),
    ("timeout expired", "host and port"),
  ])
  func `without a SQLSTATE libpq's text decides`(text: String, words: String) {
    let error = connecting(text)
    #expect(error.kind == .sourceUnavailable && error.code == nil)
    #expect(error.remedy?.contains(words) == true, "\(error)")
  }

  @Test(arguments: [
    "SSL error: certificate verify failed", "fe_sendauth: no password supplied",
    "server does not support SSL, but SSL was required",
  ])
  func `what libpq itself refuses needs a person`(text: String) {
    let error = connecting(text)
    #expect(error.kind == .sourceDenied && error.remedy?.isEmpty == false)
  }
}
