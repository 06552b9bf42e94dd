// Owns: what is left to an operator where nothing else repairs a halt.
// Must not know: how it is carried out.
import PostgresSource
import RelayCore

extension RelayError {
  /// With what is left to an operator who can neither correct the mapping nor raise a limit.
  var withLastRemedy: RelayError {
    var error = self
    if error.kind == .streamMalformed, error.remedy?.contains(PostgresSource.streamRemedy) != true {
      error.remedy = (error.remedy.map { $0 + " " } ?? "") + PostgresSource.streamRemedy
    }
    guard let commitLSN = error.commitLSN else { return error }
    error.remedy =
      (error.remedy.map { $0 + ($0.hasSuffix(".") ? " " : ". ") } ?? "")
      + "To give up this transaction with all its events and continue after it: outboxd skip --lsn \(commitLSN) "
      + "--reason '…'"
    return error
  }
}
