// Owns: the admin server's thread: its start and its end.
// Must not know: what the pages say. It reads atomics only, so no scraper can slow the relay.
import CMicrohttpd
import Glibc
import RelayCore

/// What the pages say that does not change while the process runs.
struct AdminInfo: Sendable {
  var slot: String
  var publication: String
  /// As far as the conninfo tells.
  var database: String?
  var version = Versions.outboxd
  var libraries = Versions.libraries
}

final class AdminServer {
  /// `127.0.0.1:9464`, with the port that was chosen where the configuration says 0.
  let address: String
  private let stopSignal = StopSignal()
  private var thread: pthread_t?

  /// Listens and answers on a thread of its own, until `stop`.
  /// - Throws: `failed` where the address is taken or the thread cannot be started.
  init(settings: AdminSettings, metrics: RelayMetrics, info: AdminInfo, log: Log) throws(RelayError) {
    let listener = try AdminListener.open(settings)
    address = listener.address
    let pages = AdminPages(metrics: metrics, info: info)
    guard let loop = AdminLoop(listener: listener.descriptor, pages: pages, stopSignal: stopSignal) else {
      close(listener.descriptor)
      throw RelayError(.failed, "the admin server cannot start: \(FileContents.errorText())")
    }
    // SAFETY: the thread takes the reference over; where there is no thread, it is taken back here.
    let context = Unmanaged.passRetained(loop).toOpaque()
    var thread = pthread_t()
    let code = pthread_create(&thread, nil, adminThread, context)
    guard code == 0 else {
      Unmanaged<AdminLoop>.fromOpaque(context).release()
      throw RelayError(
        .failed, "the admin server cannot start its thread: \(FileContents.errorText(code))")
    }
    self.thread = thread
    log.info("admin server listening", ("address", address))
  }

  deinit { stop() }

  /// Ends the thread and closes every connection. A second call does nothing.
  func stop() {
    guard let thread else { return }
    self.thread = nil
    stopSignal.request()
    pthread_join(thread, nil)
  }
}

/// The thread's entry. A free function: a closure here would be bound to its maker's actor.
private func adminThread(_ context: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
  guard let context else { return nil }
  // Signals are the main thread's.
  var signals = sigset_t()
  sigfillset(&signals)
  pthread_sigmask(SIG_BLOCK, &signals, nil)
  outboxd_name_thread("admin")
  // SAFETY: the context is the loop that `AdminServer.init` retained for this thread.
  Unmanaged<AdminLoop>.fromOpaque(context).takeRetainedValue().run()
  return nil
}
