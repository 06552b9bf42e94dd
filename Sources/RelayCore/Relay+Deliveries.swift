// Owns: what follows from deliveries: settled transactions, refusals, the checkpoint, the metrics.
// Must not know: how records are sent.
import Glibc
import Synchronization

extension Relay {
  func settle() throws(RelayError) {
    guard let sink else { return }
    let now = postgresNow()
    var thrown: RelayError?
    do throws(RelayError) {
      try sink.drain { delivery in
        if let failure = delivery.failure {
          self.undelivered(failure, tag: delivery.tag)
        } else if let commitTime = self.ledger.settle(delivery.tag) {
          self.tally.delivered(latency: now &- commitTime)
        }
      }
    } catch {
      thrown = error
    }
    if tally.deliveries > 0 { metrics.lastDelivery.store(now, ordering: .relaxed) }
    if let failure {
      self.failure = nil
      throw failure
    }
    if let thrown { throw thrown }
  }

  /// The first failure decides; those that follow are its consequences.
  private func undelivered(_ failure: DeliveryFailure, tag: UInt64) {
    guard self.failure == nil else { return }
    guard failure.error.kind == .recordRejected else {
      self.failure = failure.error
      return
    }
    if failure.mayBeNeighbour, ledger.outstanding > 1 {
      let last = isolate()
      self.failure = RelayError(
        .sinkFailed,
        "Kafka refused a batch of records: \(failure.error.message). They are sent again one by one, up to "
          + "\(last.commitLSN), to find the one that is refused", code: failure.error.code)
      return
    }
    let refused = ledger.commitLSN(of: tag) ?? cursor.commitLSN
    self.failure = rejected(identified(failure.error, failure.record, refused))
  }

  /// One of the records in flight is refused: they are sent again one by one.
  /// - Returns: the place of the last of them.
  private func isolate() -> EventSequence {
    // After a reconnection the source may still be behind what was sent.
    let newest = EventSequence(commitLSN: ledger.newestCommitLSN, index: .max)
    let last = newest.commitLSN > cursor.commitLSN ? newest : cursor.place
    gates.isolate(through: last)
    return last
  }

  /// Counts what was passed although Kafka may hold it.
  private func countResent() {
    tally.resent += gates.recognition.resent
    gates.recognition.resent = 0
  }

  func progress(_ source: any ChangeSource, _ now: MonotonicTime) throws(RelayError) {
    try storeCheckpoint(now)
    if let fault = source.takeFault() { throw fault }
    try source.report(flushed: positions.confirm(), now: now)
    publish(source)
  }

  func storeCheckpoint(_ now: MonotonicTime) throws(RelayError) {
    metrics.eventsSettled.store(ledger.settled, ordering: .relaxed)
    try positions.deliver(ledger.checkpoint)
    try positions.acknowledge(store.store(positions.delivered, in: positions.session), now: now)
  }

  func publish(_ source: (any ChangeSource)?) {
    countResent()
    tally.publish(to: metrics)
    let now = MonotonicTime.now()
    metrics.turned(until: now)
    positions.publish(to: metrics)
    encoder.omissions.publish(to: metrics, log)
    metrics.inFlightEvents.store(ledger.outstanding, ordering: .relaxed)
    metrics.inFlightTransactions.store(ledger.transactions, ordering: .relaxed)
    metrics.oldestUnacknowledged.store(ledger.oldestCommitTime ?? .max, ordering: .relaxed)
    if let source {
      metrics.receivedBytes.store(source.receivedBytes, ordering: .relaxed)
    }
  }
}

// Rejections.
extension Relay {
  /// The place for policies other than `halt`: what is thrown here ends the stream.
  func rejected(_ error: RelayError) -> RelayError {
    switch error.kind {
    case .rowRejected: metrics.rowsRejected.wrappingAdd(1, ordering: .relaxed)
    case .recordRejected: metrics.recordsRejected.wrappingAdd(1, ordering: .relaxed)
    default: break
    }
    return error
  }

  func identified(_ error: RelayError, _ record: Record, _ commitLSN: LSN) -> RelayError {
    var error = error
    error.commitLSN = commitLSN
    let topic = String(decoding: record.topic, as: UTF8.self)
    error.message =
      "event \(EventShape.text(of: .id, in: record) ?? "unknown") for topic \(topic), of the transaction that committed at "
      + "\(commitLSN), was refused: \(error.message)"
    return error
  }
}
