// Owns: what each SQLSTATE means for the relay: one table by class, with the codes that differ from their class.
// Must not know: error texts, what is said to an operator.

/// What becomes of an error of the server.
enum SQLStateVerdict: CaseIterable {
  /// It ends by itself, or by somebody's work on the server: retried.
  case transient
  /// A login or a right is refused: retried, since a grant needs no restart of outboxd.
  case denied
  /// A value of one row is at fault. In the WAL it stays as it is: reading again leads to the same error.
  case data
  /// Retrying does not help: the server, the database or an object in it is not what outboxd needs.
  case unsuitable
  /// An internal error. A statement may have met a catalog that somebody changed meanwhile; a place in the WAL gives
  /// the same error each time.
  case `internal`
  /// The object is in use: for a slot, another process streams from it.
  case inUse
  /// A slot, a publication or another object does not exist.
  case missing
  /// The object is in the wrong state: a slot that was invalidated, a wal_level that does not suffice.
  case wrongState
  /// A file of the server is gone: WAL, or the state of a slot.
  case missingFile
}

/// A class of SQLSTATEs (two characters) or a single code (five), with its verdict.
struct SQLStateRule {
  let code: String
  let verdict: SQLStateVerdict
  /// Why the verdict is the right one.
  let reason: String

  init(_ code: String, _ verdict: SQLStateVerdict, _ reason: String) {
    self.code = code
    self.verdict = verdict
    self.reason = reason
  }

  /// The rule of the code itself, or else of its class. Nil for a class that Postgres 18 does not define.
  static func of(_ state: String) -> SQLStateRule? { codes[state] ?? classes[String(state.prefix(2))] }

  private static let codes = index(exceptions)
  private static let classes = index(all)

  private static func index(_ rules: [SQLStateRule]) -> [String: SQLStateRule] {
    Dictionary(rules.map { ($0.code, $0) }) { first, _ in first }
  }

  /// Every class of PostgreSQL's manual, appendix A.
  static let all: [SQLStateRule] = [
    SQLStateRule("00", .unsuitable, "success, which Postgres does not report as an error"),
    SQLStateRule("01", .unsuitable, "a warning, which Postgres does not report as an error"),
    SQLStateRule("02", .unsuitable, "no data, which no statement of outboxd raises"),
    SQLStateRule("03", .unsuitable, "a statement that is not complete: outboxd sends whole ones"),
    SQLStateRule("08", .transient, "the connection broke"),
    SQLStateRule("09", .unsuitable, "a trigger failed"),
    SQLStateRule("0A", .unsuitable, "the server lacks a feature"),
    SQLStateRule("0B", .unsuitable, "a transaction was begun where none may be"),
    SQLStateRule("0F", .unsuitable, "a locator is not valid"),
    SQLStateRule("0L", .unsuitable, "a grantor is not valid"),
    SQLStateRule("0P", .unsuitable, "a role is not valid"),
    SQLStateRule("0Z", .unsuitable, "a diagnostics statement failed in a function"),
    SQLStateRule("10", .unsuitable, "an XQuery expression failed"),
    SQLStateRule("20", .unsuitable, "a CASE of a function has no branch for a value"),
    SQLStateRule("21", .unsuitable, "a subquery gave too many rows"),
    SQLStateRule("22", .data, "a value is not valid, or has no form in UTF-8"),
    SQLStateRule("23", .unsuitable, "a constraint forbids what outboxd writes"),
    SQLStateRule("24", .unsuitable, "a cursor is not in the right state"),
    SQLStateRule("25", .unsuitable, "a transaction is not in the right state"),
    SQLStateRule(
      "26", .unsuitable, "a prepared statement does not exist: a pooler may have changed the session"),
    SQLStateRule("27", .unsuitable, "a trigger changed the row that is being written"),
    SQLStateRule("28", .denied, "the login is refused"),
    SQLStateRule("2B", .unsuitable, "privileges depend on the object"),
    SQLStateRule("2D", .unsuitable, "a function ended a transaction where it may not"),
    SQLStateRule("2F", .unsuitable, "a SQL function failed"),
    SQLStateRule("34", .unsuitable, "a cursor does not exist: a pooler may have changed the session"),
    SQLStateRule("38", .unsuitable, "an external function failed"),
    SQLStateRule("39", .unsuitable, "a function or trigger was called in a way that it refuses"),
    SQLStateRule("3B", .unsuitable, "a savepoint does not exist"),
    SQLStateRule("3D", .denied, "the database does not exist, and may yet be created"),
    SQLStateRule("3F", .unsuitable, "a schema does not exist"),
    SQLStateRule("40", .transient, "the transaction was rolled back in favour of another one"),
    SQLStateRule("42", .unsuitable, "a table, column or function is missing or of another shape"),
    SQLStateRule("44", .unsuitable, "a view refuses the row"),
    SQLStateRule("53", .transient, "the server has no resources left at the moment"),
    SQLStateRule("54", .data, "a value or a statement exceeds a limit of the server"),
    SQLStateRule("55", .unsuitable, "an object is not in the state that the statement needs"),
    SQLStateRule("57", .transient, "somebody cancelled the statement, or the server stops or starts"),
    SQLStateRule("58", .transient, "the server's operating system reports an error"),
    SQLStateRule(
      "F0", .transient, "the server's configuration files cannot be used, until they are corrected"),
    SQLStateRule("HV", .unsuitable, "a foreign table failed"),
    SQLStateRule("P0", .unsuitable, "a function or trigger raised an exception"),
    SQLStateRule("XX", .internal, "the server met an internal error or damaged data"),
  ]

  /// The codes that are not what their class is.
  static let exceptions: [SQLStateRule] = [
    SQLStateRule(
      "08P01", .unsuitable, "something answers that does not speak Postgres' whole protocol: a pooler"),
    SQLStateRule("25006", .transient, "the server is a standby, or read-only: it may be promoted"),
    SQLStateRule("25P03", .transient, "idle_in_transaction_session_timeout ended the session"),
    SQLStateRule("25P04", .transient, "transaction_timeout ended the session"),
    SQLStateRule("42501", .denied, "a right is missing, and may yet be granted"),
    SQLStateRule("42704", .missing, "a slot or publication does not exist"),
    SQLStateRule("54001", .unsuitable, "the statement is too complex for max_stack_depth"),
    SQLStateRule("54011", .unsuitable, "the table has too many columns for the statement"),
    SQLStateRule("54023", .unsuitable, "a function has too many arguments"),
    SQLStateRule(
      "55000", .wrongState, "the slot was invalidated or is another database's, or wal_level is too low"),
    SQLStateRule("55006", .inUse, "another process has the slot"),
    SQLStateRule("55P03", .transient, "a lock could not be acquired in time"),
    SQLStateRule("58P01", .missingFile, "WAL or a file of the server is gone"),
  ]
}
