// Owns: which events Kafka may hold already, since a producer before this one has sent them.
// Must not know: Kafka.

/// Events of transactions that committed at or below a given LSN are settled without being sent where Kafka holds them,
/// and counted as sent again where that is not known. Then what it was told of Kafka is let go.
final class RecognitionGate: Gate {
  private var delivered: (any DeliveredEvents)?
  private var through = LSN.zero
  /// The newest commit LSN that a producer was given which has been dropped since, or a process before this one may have
  /// sent: up to there Kafka may have events that come again.
  private(set) var resentThrough = LSN.zero
  /// Nothing that committed before it is still to come.
  private var passed = LSN.zero

  /// Events that were passed though Kafka may hold them, since this was last set to 0.
  var resent: UInt64 = 0

  /// The last answer may have taken long. Kept, since to ask for it would count references for each row.
  private(set) var hasBlocked = false
  var isActive: Bool { delivered != nil || resentThrough >= passed && resentThrough != .zero }

  func recognize(_ delivered: any DeliveredEvents, through: LSN) {
    self.delivered = delivered
    self.through = max(through, self.through)
    resend(through: through)
  }

  /// Records up to `through` may have been sent, and come again.
  func resend(through: LSN) {
    resentThrough = max(through, resentThrough)
    passed = .zero
  }

  func answer(_ event: GateEvent) -> GateAnswer {
    let commitLSN = event.place.commitLSN
    if let delivered, commitLSN <= through {
      let recognition = delivered.recognize(event.record, event.place)
      hasBlocked = delivered.hasBlocked
      switch recognition {
      case .wait(let wait): return .wait(wait)
      case .there: return .skip(.recognized)
      case .absent: return .pass
      case .unknown: break
      }
    } else if commitLSN > resentThrough {
      return .pass
    }
    resent &+= 1
    return .pass
  }

  /// True where it has no more to say.
  func pass(_ lsn: LSN) -> Bool {
    let wasActive = isActive
    passed = max(passed, lsn)
    if delivered != nil, lsn > through {
      delivered = nil
      through = .zero
      hasBlocked = false
    }
    return wasActive && !isActive
  }
}
