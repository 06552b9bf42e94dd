// Owns: an answer of the admin server: status, type and body.
// Must not know: sockets.

struct AdminAnswer: Equatable, Sendable {
  var status: UInt32
  var contentType: String
  var body: String

  static func text(_ status: UInt32, _ body: String) -> AdminAnswer {
    AdminAnswer(status: status, contentType: "text/plain; charset=utf-8", body: body + "\n")
  }

  static func json(_ status: UInt32, _ value: JSONValue) -> AdminAnswer {
    AdminAnswer(status: status, contentType: "application/json", body: value.pretty)
  }
}
