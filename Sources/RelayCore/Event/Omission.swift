// Owns: what an event may go without, though its row has it, and what the log says of it.
// Must not know: which event.

/// An event without it is valid, and the way of one event must not stop all others.
enum Omission: CaseIterable {
  /// The key, because the aggregate id is NULL.
  case key
  /// All of the headers column: it holds no JSON object.
  case headers
  /// The same, where JSON of that depth is not read.
  case deepHeaders
  /// Members of the headers column, by reason.
  case reservedHeader, unnamedHeader, unreadableHeader, surplusHeader
  /// It is a plain header, for it cannot be an attribute.
  case attribute

  /// Fixed, so that the log recognises repeats.
  var message: String {
    switch self {
    case .key:
      "an event has no aggregate id: it is sent without a key, and has no order among others"
    case .headers: "the headers column of a row holds no JSON object: the event is sent without these headers"
    case .deepHeaders:
      "the headers column of a row is nested deeper than \(JSONScanner.maximumDepth) levels, which is the limit: the event "
        + "is sent without these headers"
    case .reservedHeader:
      "a member of the headers column has a name that belongs to the event or to outboxd: it is left out"
    case .unnamedHeader:
      "a member of the headers column has an empty name or one with a control character: it is left out"
    case .unreadableHeader: "a member of the headers column is not Unicode (a lone surrogate): it is left out"
    case .surplusHeader:
      "the headers column of a row has more than 64 members: those after the 64th are left out"
    case .attribute:
      "a member of the headers column holds a character that CloudEvents forbids: it is sent as a plain header"
    }
  }

  var remedy: String {
    switch self {
    case .key: "Make the column NOT NULL, or set `key: none` where no order is needed."
    case .headers: "Write a JSON object into the column, or set columns.headers: none."
    case .deepHeaders:
      "Write a JSON object of fewer levels into the column, or set columns.headers: none."
    case .reservedHeader, .unnamedHeader: "Write it under another name, or set columns.headers: none."
    case .unreadableHeader, .attribute: "Write printable text, or set columns.headers: none."
    case .surplusHeader: "Write fewer, or set columns.headers: none."
    }
  }
}
