// Owns: the programs that the demo starts: their log, their end, and that they end with the demo.
// Must not know: which programs they are.
import CSystem
import Glibc
import RelayCore

/// A program in a process group of its own, so that Ctrl-C reaches the demo alone. Where setpriv is there
/// (util-linux), the program also ends when the demo is killed. To be started on the main thread.
final class DemoProcess {
  let name: String
  let processID: pid_t
  private let logFile: String
  private var status: Int32?

  /// - Parameters:
  ///   - user: the system's user to run as, when the demo runs as root.
  ///   - input: becomes standard input. Nil: none.
  ///   - output: becomes standard output. Nil: the log file.
  ///   - logFile: where standard error goes.
  /// - Throws: `failed`.
  init(
    name: String, command: [String], user: String? = nil, folder: String, input: Int32? = nil,
    output: Int32? = nil, logFile: String
  ) throws(RelayError) {
    self.name = name
    self.logFile = logFile
    let words = try Self.prefix(user: user) + command
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    if let input {
      posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO)
    } else {
      posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
    }
    posix_spawn_file_actions_addopen(
      &actions, STDERR_FILENO, logFile, O_WRONLY | O_CREAT | O_APPEND, 0o644)
    posix_spawn_file_actions_adddup2(&actions, output ?? STDERR_FILENO, STDOUT_FILENO)
    processID = try Self.spawn(words, &actions, folder: folder)
  }

  private static func prefix(user: String?) throws(RelayError) -> [String] {
    guard let setpriv = Executable.find("setpriv") else {
      guard user == nil else {
        throw RelayError(
          .failed, "Postgres does not run as root, and there is no setpriv to change the user with",
          remedy: "Run the demo as another user, or install util-linux.")
      }
      return []
    }
    let change = user.map { ["--reuid=\($0)", "--regid=\($0)", "--clear-groups"] } ?? []
    return [setpriv, "--pdeathsig", "INT"] + change
  }

  private static func spawn(
    _ words: [String], _ actions: inout posix_spawn_file_actions_t, folder: String
  ) throws(RelayError) -> pid_t {
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    // The demo itself blocks the signals that it waits for, and ignores SIGPIPE.
    outboxd_reset_spawn_signals(&attributes)
    posix_spawnattr_setpgroup(&attributes, 0)
    posix_spawnattr_setflags(
      &attributes,
      Int16(POSIX_SPAWN_SETPGROUP) | Int16(POSIX_SPAWN_SETSIGMASK) | Int16(POSIX_SPAWN_SETSIGDEF))
    var vector = words.map { strdup($0) } + [nil]
    defer { vector.forEach { free($0) } }
    // The program's user may not be allowed into the folder that the demo was started in.
    let here = open(".", O_RDONLY | O_CLOEXEC)
    defer {
      if here >= 0 {
        _ = fchdir(here)
        close(here)
      }
    }
    _ = chdir(folder)
    var process: pid_t = -1
    // SAFETY: the vector ends with nil, and its texts live until the call has returned.
    let result = posix_spawn(&process, words[0], &actions, &attributes, &vector, environ)
    guard result == 0 else {
      throw RelayError(.failed, "\(words[0]) could not be started: \(String(cString: strerror(result)))")
    }
    return process
  }

  /// The exit code, or 128 and the signal's number. Nil: it still runs.
  var exitCode: Int32? {
    if let status { return status }
    var raw: Int32 = 0
    guard waitpid(processID, &raw, WNOHANG) == processID else { return nil }
    let signal = raw & 0x7F
    status = signal == 0 ? raw >> 8 & 0xFF : 128 + signal
    return status
  }

  func signal(_ number: Int32) {
    if exitCode == nil { kill(processID, number) }
  }

  /// Waits for its end. True if it came within `milliseconds`.
  func waitForEnd(milliseconds: Int) -> Bool {
    let deadline = MonotonicTime.now().advanced(milliseconds: milliseconds)
    while exitCode == nil {
      if MonotonicTime.now() >= deadline { return false }
      usleep(10_000)
    }
    return true
  }

  /// Ends it with the signal, and with SIGKILL where that does not help within `milliseconds`.
  func end(_ number: Int32, milliseconds: Int) {
    signal(number)
    if waitForEnd(milliseconds: milliseconds) { return }
    signal(SIGKILL)
    _ = waitForEnd(milliseconds: 2000)
  }

  /// - Throws: `failed` with the last lines of its log where it has ended.
  func requireAlive() throws(RelayError) {
    if let exitCode { throw failure("ended with exit code \(exitCode)") }
  }

  /// What happened to it. Its last log lines are printed.
  func failure(_ what: String) -> RelayError {
    Terminal.printError("The last lines of the log of \(name):\n\(lastLines(of: logFile, 12))\n")
    return RelayError(.failed, "\(name) \(what)", remedy: "See the last lines of its log above.")
  }
}

/// The last lines of a file, each indented.
private func lastLines(of path: String, _ count: Int) -> String {
  let descriptor = open(path, O_RDONLY | O_CLOEXEC)
  guard descriptor >= 0 else { return "    (no log)" }
  defer { close(descriptor) }
  let size = lseek(descriptor, 0, SEEK_END)
  let length = min(size, 16_384)
  lseek(descriptor, size - length, SEEK_SET)
  let text = String(unsafeUninitializedCapacity: max(1, Int(length))) { buffer in
    // SAFETY: read(2) writes at most the buffer's count.
    max(0, read(descriptor, buffer.baseAddress, Int(length)))
  }
  let lines = text.split(separator: "\n").suffix(count)
  return lines.isEmpty ? "    (it wrote none)" : lines.map { "    \($0)" }.joined(separator: "\n")
}
