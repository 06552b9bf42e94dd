// Owns: the thread that writes a job's position into `outboxd.job`, and the hand-over to it.
// Must not know: SQL, the source, the sink.
import PostgresSource
import RelayCore
import Synchronization

/// Keeps one job. The relay's thread hands positions over and never waits, except at the end.
final class JobKeeper: Sendable {
  private struct State {
    var id: Int64?
    var fault: RelayError?
    var position: String?
    var events: UInt64 = 0
    var hasNews = false
    var isFinished = false
    var isFinishStored = false
    var thread: RelayThread?
  }

  private let settings: PostgresSettings
  private let log: Log
  private let state = Mutex(State())
  /// Asked for once the job's row is there, or cannot be.
  private let opened = StopSignal()
  /// Asks the thread to write what there is, and to end.
  private let end = StopSignal()
  /// Ends the thread's statements.
  private let abort = StopSignal()

  private static let writeInterval = 200
  private static let retryInterval = 2_000

  init(settings: PostgresSettings, log: Log) {
    self.settings = settings
    self.log = log
  }

  /// Enters the job, or takes the interrupted one.
  /// - Returns: its number; nil, with a warning in the log, where there is no table to keep it in.
  /// - Throws: `failed` where another process works on it; what a connection throws.
  func start(_ job: Job) throws(RelayError) -> Int64? {
    let (command, request, resumed) = (job.command, job.request.compact, job.resumed)
    let thread = try RelayThread(name: "outboxd-job") { [self] in
      run(command: command, request: request, resumed: resumed)
    }
    state.withLock { state in
      state.thread = thread
      state.events = resumed?.events ?? 0
    }
    while !opened.wait(milliseconds: 60_000) {}
    let (id, fault) = state.withLock { ($0.id, $0.fault) }
    if let fault {
      guard fault.kind == .journalUnusable, resumed == nil else { throw fault }
      log.warning(
        "outboxd.job does not record this \(command): after an interruption it must start from the beginning",
        ("reason", fault.message), ("remedy", fault.remedy ?? "Use the journal (postgres.journal)."))
    }
    return id
  }

  /// Everything before `position` is acknowledged: so many events. Nil: no place is known yet.
  func store(position: String?, events: UInt64) {
    state.withLock { state in
      if let position { state.position = position }
      state.events = events
      state.hasNews = true
    }
  }

  /// The newest place to go on from. Nil: there is none yet.
  var position: String? { state.withLock { $0.position } }

  /// Writes what there is, marks the job as done where it is, and ends the thread, until `deadline` at the latest.
  /// To be called once.
  /// - Returns: whether `outboxd.job` has the job as done.
  func finish(isDone: Bool, deadline: MonotonicTime) -> Bool {
    let thread = state.withLock { state in
      state.isFinished = isDone
      state.hasNews = true
      defer { state.thread = nil }
      return state.thread
    }
    end.request()
    let watchdog = try? RelayThread(name: "outboxd-end") { [abort] in
      abort.wait(milliseconds: MonotonicTime.now().milliseconds(until: deadline, limit: 60_000))
      abort.request()
    }
    thread?.join()
    abort.request()
    watchdog?.join()
    return state.withLock { $0.isFinishStored }
  }
}

// The thread's side.
extension JobKeeper {
  private func run(command: String, request: String, resumed: JobRecord?) {
    var store: JobStore?
    let id: Int64
    do throws(RelayError) {
      let opening = try JobStore(settings: settings, stop: abort)
      if let resumed {
        guard try opening.take(resumed.id) else {
          throw RelayError(.failed, "another process is working on job \(resumed.id)")
        }
        id = resumed.id
      } else {
        id = try opening.begin(command: command, request: request)
      }
      store = opening
      state.withLock { $0.id = id }
      opened.request()
    } catch {
      state.withLock { $0.fault = error }
      opened.request()
      return
    }
    while true {
      let isLast = end.wait(milliseconds: store == nil ? Self.retryInterval : Self.writeInterval)
      do throws(RelayError) {
        if store == nil {
          let again = try JobStore(settings: settings, stop: abort)
          _ = try again.take(id)
          store = again
        }
        if let store { try write(id, store, isLast: isLast) }
      } catch {
        store = nil
        log.error("the job's position was not stored", error, level: .warning)
        if isLast, abort.wait(milliseconds: 200) { return }
        continue
      }
      if isLast { return }
    }
  }

  private func write(_ id: Int64, _ store: JobStore, isLast: Bool) throws(RelayError) {
    let (position, events, hasNews, isFinished) = state.withLock { state in
      defer { state.hasNews = false }
      return (state.position, state.events, state.hasNews, state.isFinished)
    }
    do throws(RelayError) {
      if isLast, isFinished {
        try store.finish(id, events: events)
        state.withLock { $0.isFinishStored = true }
      } else if hasNews {
        try store.write(id, position: position, events: events)
      }
    } catch {
      state.withLock { $0.hasNews = true }
      throw error
    }
  }
}
