// Owns: waiting for the server to make a slot: who it waits for, and leaving nothing behind when a stop comes first.
// Must not know: which statement makes the slot, what it is for.
import CLibpq
import Glibc
public import RelayCore

/// The making of one slot. The server does not have it before every transaction that was running has ended.
struct SlotCreation {
  let slot: String
  /// How to connect to ask who is waited for.
  let settings: PostgresSettings
  let stop: StopSignal
  let log: Log
  /// Where the reason of the wait is shown meanwhile.
  let metrics: RelayMetrics?

  // In milliseconds.
  private static let firstReport = 500
  private static let reportInterval = 10_000

  /// Runs the statement on the connection, however long it takes.
  /// - Throws: `interrupted` when a stop was requested: the slot is then gone.
  func run(_ statement: String, on connection: SQLConnection) throws(RelayError) -> SQLResult {
    try connection.liftTimeouts()
    try connection.send(statement)
    defer { metrics?.busyWith = nil }
    do throws(RelayError) {
      var deadline = MonotonicTime.now().advanced(milliseconds: Self.firstReport)
      while try !connection.isAnswered(before: deadline) {
        report(on: connection)
        deadline = MonotonicTime.now().advanced(milliseconds: Self.reportInterval)
      }
    } catch {
      // A slot that is half made would stay until those transactions have ended, and look like one in use.
      if error.kind == .interrupted { connection.cancel() }
      throw error
    }
    return try connection.answer(deadline: .never)
  }

  private func report(on connection: SQLConnection) {
    let message = "creating the slot: waiting until older transactions have ended"
    let holder: OpenTransaction?
    do throws(RelayError) {
      let reader = try SQLConnection(settings, applicationName: "outboxd wait", stop: stop)
      holder = try OpenTransaction.blocking(connection.backendPID, on: reader).first
    } catch {
      guard error.kind != .interrupted else { return }
      log.warning("\(message)", ("slot", slot), ("waits_for", "unknown: \(error.message)"))
      return
    }
    // Between two of them the server waits for none.
    guard let holder else { return }
    metrics?.busyWith = "slot \"\(slot)\" is being created; waiting for \(holder)"
    log.warning("\(message)", ("slot", slot), ("waits_for", holder.description), ("remedy", holder.remedy))
  }
}

extension SQLConnection {
  var backendPID: Int { Int(PQbackendPID(handle)) }

  /// Whatever the role or the database has set: a slot takes as long as the oldest transaction.
  fileprivate func liftTimeouts() throws(RelayError) {
    var names = [
      "lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout",
    ]
    if serverVersion >= 170_000 { names.append("transaction_timeout") }
    try query(
      "SELECT " + names.map { "pg_catalog.set_config('\($0)', '0', false)" }.joined(separator: ", "))
  }

  /// Has the server give up what it works on, and waits a little for it to do so. The connection is of no more use.
  fileprivate func cancel() {
    guard let request = PQgetCancel(handle) else { return }
    var text = [CChar](repeating: 0, count: 256)
    // SAFETY: the request is this function's own, and freed once; libpq writes at most the length that it is told.
    PQcancel(request, &text, Int32(text.count))
    PQfreeCancel(request)
    let deadline = MonotonicTime.now().advanced(milliseconds: 5_000)
    while PQisBusy(handle) == 1 {
      guard let outcome = try? Self.wait(PQsocket(handle), Int16(POLLIN), until: deadline, stop: nil),
        outcome == .ready, PQconsumeInput(handle) == 1
      else { return }
    }
  }
}

extension PostgresSource {
  /// Runs a statement that makes the configured slot, in plain SQL.
  /// - Parameter login: who connects, where that is not outboxd's own role.
  public static func createSlot(
    by statement: String, settings: PostgresSettings, login: PostgresSettings, stop: StopSignal, log: Log
  ) throws(RelayError) {
    let connection = try SQLConnection(login, applicationName: "outboxd init", stop: stop)
    let creation = SlotCreation(slot: settings.slot, settings: login, stop: stop, log: log, metrics: nil)
    _ = try creation.run(statement, on: connection)
  }
}
