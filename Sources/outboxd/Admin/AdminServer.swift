// Owns: the admin server's thread: its start and its end.
// Must not know: what the pages say. It reads atomics only, so no scraper can slow the relay.
import CMicrohttpd
import Glibc
import RelayCore
import Synchronization

final class AdminServer {
  private let stopSignal = StopSignal()
  private var thread: pthread_t?
  /// `127.0.0.1:9464`, with the port that was chosen where the configuration says 0; nil while it does not listen.
  var address: String? { place.address.withLock { $0 } }
  private let place = AdminPlace()

  /// Listens and answers on a thread of its own, until `stop`. Where another process has the port, it is tried again
  /// until it is free: the relay is worth more than its pages, and a standby may run on the same machine.
  /// - Throws: `failed` where the address cannot be had at all, or the thread cannot be started.
  /// - Parameter hosts: `admin.hosts`.
  init(
    settings: AdminSettings, hosts: [String] = [], metrics: RelayMetrics, info: AdminInfo, log: Log
  ) throws(RelayError) {
    let work = AdminWork(
      settings: settings, hosts: hosts, pages: AdminPages(metrics: metrics, info: info),
      stopSignal: stopSignal, log: log,
      place: place)
    try work.open()
    // SAFETY: the thread takes the reference over; where there is no thread, it is taken back here.
    let context = Unmanaged.passRetained(work).toOpaque()
    var thread = pthread_t()
    let code = pthread_create(&thread, nil, adminThread, context)
    guard code == 0 else {
      Unmanaged<AdminWork>.fromOpaque(context).release()
      throw RelayError(
        .failed, "the admin server cannot start its thread: \(SmallFile.errorText(code))")
    }
    self.thread = thread
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

/// Where the server listens, for other threads.
private final class AdminPlace: Sendable {
  let address = Mutex<String?>(nil)
}

/// What the thread does. Made before it, and confined to it then.
private final class AdminWork {
  private static let retryInterval = 3_000

  private let settings: AdminSettings
  private let hosts: [String]
  private let pages: AdminPages
  private let stopSignal: StopSignal
  private let log: Log
  private let place: AdminPlace
  private var loop: AdminLoop?
  private var hasWarned = false

  init(
    settings: AdminSettings, hosts: [String], pages: AdminPages, stopSignal: StopSignal, log: Log,
    place: AdminPlace
  ) {
    self.settings = settings
    self.hosts = hosts
    self.pages = pages
    self.stopSignal = stopSignal
    self.log = log
    self.place = place
  }

  /// Listens, or warns once that this is not possible yet.
  func open() throws(RelayError) {
    let listener: AdminListener
    do throws(AdminListener.Failure) {
      listener = try AdminListener.open(settings)
    } catch {
      guard error.mayPass else { throw error.error }
      if !hasWarned {
        log.error(
          "the relay runs without its admin server; retrying every \(Self.retryInterval / 1000) s",
          error.error,
          level: .warning)
      }
      hasWarned = true
      return
    }
    let hosts = AdminHosts(hosts, configured: settings.host, listeningOn: listener.address)
    guard
      let loop = AdminLoop(
        listener: listener.descriptor, hosts: hosts, pages: pages, stopSignal: stopSignal)
    else {
      close(listener.descriptor)
      throw RelayError(.failed, "the admin server cannot start: \(SmallFile.errorText(errno))")
    }
    self.loop = loop
    place.address.withLock { $0 = listener.address }
    log.info("admin server listening", ("address", listener.address))
  }

  func run() {
    while loop == nil {
      if stopSignal.wait(milliseconds: Self.retryInterval) { return }
      do throws(RelayError) {
        try open()
      } catch {
        return log.error("the relay runs without its admin server", error, level: .warning)
      }
    }
    loop?.run()
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
  // SAFETY: the context is the work that `AdminServer.init` retained for this thread.
  Unmanaged<AdminWork>.fromOpaque(context).takeRetainedValue().run()
  return nil
}
