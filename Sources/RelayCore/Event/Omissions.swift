// Owns: what events go without, though their rows have it: counted, and told to the log once for each table.
// Must not know: which omissions there are, and when somebody looks.
import Synchronization

struct Omissions {
  struct Note {
    var omission: Omission
    /// `schema.table`.
    var table: String
    /// The name of the member.
    var detail: String?
  }

  private(set) var keys: UInt64 = 0
  private(set) var headers: UInt64 = 0
  var notes: [Note] = []

  mutating func count(_ omission: Omission) {
    if omission == .key { keys &+= 1 } else { headers &+= 1 }
  }

  mutating func publish(to metrics: RelayMetrics, _ log: Log) {
    guard keys > 0 || headers > 0 else { return }
    metrics.headersLeftOut.wrappingAdd(headers, ordering: .relaxed)
    metrics.eventsWithoutKey.wrappingAdd(keys, ordering: .relaxed)
    for note in notes { note.tell(log) }
    self = Omissions()
  }
}

extension Omissions.Note {
  fileprivate func tell(_ log: Log) {
    var fields: [Log.Field] = [("table", table)]
    if let detail { fields.append(("name", detail)) }
    fields.append(("remedy", omission.remedy))
    log.write(.warning, omission.message, fields)
  }
}
