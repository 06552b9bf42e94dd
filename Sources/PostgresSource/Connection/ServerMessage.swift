// Owns: an error or notice of the server, as its fields.
// Must not know: what follows from it.
import CLibpq
import RelayCore

/// An error or notice of the server.
struct ServerMessage: Equatable {
  var sqlstate: String?
  var severity: String?
  var message: String
  var detail: String?
  var hint: String?
  /// Where it arose. In the stream it ends with the LSN of the change that was decoded.
  var context: String?

  init(
    sqlstate: String?, severity: String? = nil, message: String, detail: String? = nil, context: String? = nil
  ) {
    self.sqlstate = sqlstate
    self.severity = severity
    self.message = message
    self.detail = detail
    self.context = context
  }

  /// The fields of a result with an error or a notice in it.
  init(_ result: OpaquePointer) {
    func field(_ code: UInt8) -> String? {
      // SAFETY: the result is alive for the call; libpq returns a NUL-terminated text that it owns, or nil.
      guard let text = PQresultErrorField(result, Int32(code)) else { return nil }
      return String(cString: text)
    }
    sqlstate = field(UInt8(ascii: "C"))
    severity = field(UInt8(ascii: "V"))
    // SAFETY: PQresultErrorMessage returns a text for every result, an empty one where there is no error.
    message = field(UInt8(ascii: "M")) ?? PQresultErrorMessage(result).map { String(cString: $0) } ?? ""
    detail = field(UInt8(ascii: "D"))
    hint = field(UInt8(ascii: "H"))
    context = field(UInt8(ascii: "W"))
  }

  /// It is the last one of its connection.
  var endsConnection: Bool { severity == "FATAL" || severity == "PANIC" }

  var text: String {
    let line = PostgresFailure.oneLine(message)
    return detail.map { "\(line) (\(PostgresFailure.oneLine($0)))" } ?? line
  }

  /// The place of the change that was being decoded: the last word of the context, whatever its language.
  var changeLSN: LSN? {
    context?.split(whereSeparator: { $0 == " " || $0.isNewline }).last.flatMap { LSN(String($0)) }
  }

  /// The reason of an invalidated slot, as `pg_replication_slots.invalidation_reason` has it: the one word of the
  /// detail that stands in quotes (from 18 on).
  var invalidationReason: String? {
    detail?.split(separator: "\"", omittingEmptySubsequences: false).dropFirst().first.map(String.init)
  }
}
