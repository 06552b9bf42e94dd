// Owns: why a value is refused, without its place.
// Must not know: which value it is.

/// Why a text is not a value. The place is added by whoever has it.
struct ValueFault: Error, Equatable {
  var message: String
  var suggestion: String?

  init(_ message: String, _ suggestion: String? = nil) {
    self.message = message
    self.suggestion = suggestion
  }
}
