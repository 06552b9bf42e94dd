// Owns: the gates of a relay and their order.
// Must not know: what is sent, topics.

/// In this order, each with the reason for its place:
///
/// 1. **Selection** (`EventSelection`, asked by the encoder): a row that nobody asked for need not make an event.
/// 2. **First sight** (`examine`): before anything leaves a process that may run on a copy of its server.
/// 3. **Recognition**: what Kafka holds already waits for nothing that follows.
/// 4. **Isolation**: what is left is sent alone where one of several was refused.
/// 5. **Rate**: counts what is sent, and nothing that was skipped.
/// 6. **The sink**: whether the topic takes records. Last, since its answer holds for this moment.
///
/// A gate that has nothing to say of what is still to come is not asked: a relay that has caught up asks the sink alone.
struct Gates: ~Copyable {
  let recognition = RecognitionGate()
  private let isolation = IsolationGate()
  private let rate: RateGate?
  private var firstSight: (any FirstSight)?
  /// Those that are asked, in order.
  private(set) var active: [any Gate] = []

  init(rate: Int?) {
    self.rate = rate.map { RateGate(rate: $0) }
    arrange()
  }

  private mutating func arrange() {
    active = []
    if let firstSight { active.append(firstSight) }
    if recognition.isActive { active.append(recognition) }
    if isolation.isActive { active.append(isolation) }
    if let rate { active.append(rate) }
  }

  mutating func examine(with gate: any FirstSight) {
    firstSight = gate
    arrange()
  }

  mutating func recognize(_ delivered: any DeliveredEvents, through: LSN) {
    recognition.recognize(delivered, through: through)
    arrange()
  }

  /// Records up to `through` may have been sent, and come again.
  mutating func resend(through: LSN) {
    recognition.resend(through: through)
    arrange()
  }

  /// Up to this place one record is in flight at a time.
  mutating func isolate(through place: EventSequence) {
    isolation.through = isolation.through.map { max($0, place) } ?? place
    arrange()
  }

  /// Nothing that committed before `lsn` is still to come. To be called between transactions.
  mutating func pass(_ lsn: LSN) {
    if active.isEmpty { return }
    let isFirstSightOver = firstSight?.isDone == true
    if isFirstSightOver { firstSight = nil }
    // Both are told, whatever the first says.
    let isRecognitionOver = recognition.pass(lsn)
    let isIsolationOver = isolation.pass(lsn)
    if isFirstSightOver || isRecognitionOver || isIsolationOver { arrange() }
  }

  /// The last answer may have taken long.
  var hasBlocked: Bool { firstSight?.isDone == false || recognition.hasBlocked }
}

/// One record is in flight at a time, up to a place: one of those before it was refused together with its neighbours, and
/// only alone it can be told which.
final class IsolationGate: Gate {
  var through: EventSequence?

  var isActive: Bool { through != nil }

  func answer(_ event: GateEvent) -> GateAnswer {
    guard let through, event.place <= through, event.outstanding > 0 else { return .pass }
    var wait = GateWait(
      for: "the record before it",
      "events up to \(through.commitLSN) are sent one by one, to find the one that Kafka refuses",
      outstanding: 0, patience: 1_000)
    wait.flushes = true
    return .wait(wait)
  }

  /// True where it has no more to say.
  func pass(_ lsn: LSN) -> Bool {
    guard let through, through.commitLSN < lsn else { return false }
    self.through = nil
    return true
  }
}
