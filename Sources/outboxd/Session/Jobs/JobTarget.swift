// Owns: where a job's records go.
// Must not know: how they get there.

/// Where a job's records go.
enum JobTarget: Equatable, Sendable {
  case kafka
  /// A file of JSON lines: created for a new job, appended to for one that goes on.
  case file(String)
  /// JSON lines. What a reader took of them is not known, so such a job cannot be resumed.
  case standardOutput
  /// Nowhere: they are counted.
  case count

  /// True where it is known what arrived, so that an interrupted job can go on.
  var isResumable: Bool {
    switch self {
    case .kafka, .file: true
    case .standardOutput, .count: false
    }
  }
}
