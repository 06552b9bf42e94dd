// Owns: how far a job's source has been read, for the thread that shows it.
// Must not know: what is read.
import Synchronization

/// How far a job's source has been read, for the thread that draws it.
final class JobMeter: Sendable {
  let done = Atomic<UInt64>(0)
  /// 0: not known.
  let total = Atomic<UInt64>(0)
}
