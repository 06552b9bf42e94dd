// Owns: the end of everything that tests have started, also when the test process is killed.
// A shell of its own holds the list, and acts on it when the pipe from the test process is closed.
import CSystem
import Foundation
import Glibc
import Synchronization

final class Counter: Sendable {
  private let value = Mutex(0)
  func next() -> Int {
    value.withLock {
      $0 += 1
      return $0
    }
  }
}

/// A pipe that programs started later do not inherit.
@discardableResult
func makePipe(_ ends: inout [Int32]) -> Bool {
  guard pipe(&ends) == 0 else { return false }
  return ends.allSatisfy { fcntl($0, F_SETFD, FD_CLOEXEC) == 0 }
}

/// The one that turns off the light.
public final class Reaper: Sendable {
  public static let shared = Reaper()
  private let descriptor: Int32

  private static let script = #"""
    trap '' INT TERM HUP QUIT
    declare -A pids folders servers clusters
    while read -r verb rest; do
      case $verb in
        pid) pids[$rest]=1 ;;
        gone) unset "pids[$rest]" ;;
        folder) folders[$rest]=1 ;;
        removed) unset "folders[$rest]" ;;
        postgres) servers[$rest]=1 ;;
        kafka) clusters[$rest]=1 ;;
      esac
    done
    for pid in "${!pids[@]}"; do kill -KILL -- "-$pid"; done
    for data in "${!servers[@]}"; do
      pid=$(head -n 1 "$data/postmaster.pid") && kill -QUIT "$pid"
    done
    for folder in "${!clusters[@]}"; do
      for file in "$folder"/node*/pid; do pid=$(cat "$file") && kill -KILL "$pid"; done
    done
    for data in "${!servers[@]}"; do
      for turn in {1..50}; do [ -e "$data/postmaster.pid" ] || break; sleep 0.1; done
    done
    for folder in "${!folders[@]}"; do rm -rf "$folder"; done
    """#

  private init() {
    var ends: [Int32] = [-1, -1]
    makePipe(&ends)
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, ends[0], 0)
    // Whoever waits for the end of the test process' output must not wait for the reaper.
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0)
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0)
    do {
      let bash = try ChildProcess.find("bash")
      _ = try ChildProcess.spawn(bash, ["bash", "-c", Self.script], [:], &actions)
    } catch {
      FileHandle.standardError.write(Data("RelayTesting: no reaper: \(error)\n".utf8))
    }
    close(ends[0])
    descriptor = ends[1]
  }

  /// `pid N`, `gone N`, `folder PATH`, `removed PATH`, `postgres DATA-FOLDER`, `kafka FOLDER`.
  public func tell(_ line: String) {
    let bytes = Array((line + "\n").utf8)
    // Lines are shorter than PIPE_BUF: they never mix.
    _ = write(descriptor, bytes, bytes.count)
  }
}
