// Owns: why a row cannot become an event.
// Must not know: which row it is.

/// Why a row cannot become an event: the part concerned, and the reason. The encoder adds the place.
struct RowFault: Error {
  var part: String
  var reason: String
  /// What to do where it is not the mapping as such that is to be corrected.
  var remedy: String?

  init(_ part: String, _ reason: String, remedy: String? = nil) {
    self.part = part
    self.reason = reason
    self.remedy = remedy
  }

  /// The beginning of a value, 80 bytes of it at most, as a reason shows it.
  static func quoted(_ bytes: LentBytes) -> String {
    PrintableText.quoted(String(decoding: bytes.prefix(80), as: UTF8.self))
  }
}
