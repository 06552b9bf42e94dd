// Owns: one connection for SQL, so that a question in the middle of a measurement costs no process.
// Must not know: what is asked.
import CLibpq
import RelayTesting

final class Database {
  private let connection: OpaquePointer

  init(_ conninfo: String) throws {
    guard let connection = PQconnectdb(conninfo) else { throw HarnessError("no memory for a connection") }
    self.connection = connection
    guard PQstatus(connection) == CONNECTION_OK else { throw HarnessError(message) }
  }

  deinit { PQfinish(connection) }

  // SAFETY: libpq's text is NUL-terminated, lives until the next call, and is copied here.
  private var message: String { String(cString: PQerrorMessage(connection)) }

  /// Runs statements and returns the rows of the last one; NULL is nil.
  @discardableResult
  func rows(_ sql: String) throws -> [[String?]] {
    let result = PQexec(connection, sql)
    defer { PQclear(result) }
    let status = PQresultStatus(result)
    guard status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK else {
      throw HarnessError("\(message)in \(sql)")
    }
    return (0..<PQntuples(result)).map { row in
      (0..<PQnfields(result)).map { column in
        // SAFETY: row and column are below the result's counts; the text is NUL-terminated and is copied.
        PQgetisnull(result, row, column) == 1 ? nil : String(cString: PQgetvalue(result, row, column))
      }
    }
  }

  /// The first value of the first row; nil for NULL or no row.
  @discardableResult
  func value(_ sql: String) throws -> String? { try rows(sql).first?.first ?? nil }
}
