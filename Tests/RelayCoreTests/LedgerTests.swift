import Testing

@testable import RelayCore

@Suite struct LedgerTests {
  @Test func `the checkpoint is the end of the last transaction before which nothing is outstanding`() {
    var ledger = Ledger(checkpoint: LSN(5))
    #expect(ledger.open(commitLSN: LSN(10), commitTime: 0) == .new)
    let first = ledger.tag
    ledger.sent()
    ledger.sent()
    ledger.close(endLSN: LSN(12))
    #expect(ledger.open(commitLSN: LSN(20), commitTime: 0) == .new)
    let second = ledger.tag
    ledger.sent()
    ledger.close(endLSN: LSN(22))
    _ = ledger.settle(second)
    #expect(ledger.checkpoint == LSN(5))
    _ = ledger.settle(first)
    #expect(ledger.checkpoint == LSN(5))
    _ = ledger.settle(first)
    #expect(ledger.checkpoint == LSN(22))
    #expect(ledger.outstanding == 0)
  }

  @Test func `an open transaction holds the checkpoint although all its rows are acknowledged`() {
    var ledger = Ledger()
    _ = ledger.open(commitLSN: LSN(10), commitTime: 0)
    ledger.sent()
    _ = ledger.settle(ledger.tag)
    #expect(ledger.checkpoint == .zero)
    ledger.advance(to: LSN(100))
    #expect(ledger.checkpoint == .zero)
    ledger.close(endLSN: LSN(12))
    #expect(ledger.checkpoint == LSN(12))
  }

  @Test func `what is settled counts the records before the checkpoint, and what was cut once`() {
    var ledger = Ledger()
    _ = ledger.open(commitLSN: LSN(10), commitTime: 0)
    ledger.sent()
    ledger.skipped()
    _ = ledger.settle(ledger.tag)
    #expect(ledger.settled == 0)
    ledger.close(endLSN: LSN(12))
    #expect(ledger.settled == 1)
    for _ in 0..<2 {
      _ = ledger.open(commitLSN: LSN(20), commitTime: 0)
      ledger.sent()
      _ = ledger.settle(ledger.tag)
      #expect(ledger.settled == 1)
      ledger.rewind()
    }
    _ = ledger.open(commitLSN: LSN(20), commitTime: 0)
    ledger.sent()
    _ = ledger.settle(ledger.tag)
    ledger.close(endLSN: LSN(22))
    #expect(ledger.settled == 2)
  }

  @Test func `a keepalive moves an idle ledger, and not past what is in flight`() {
    var ledger = Ledger()
    ledger.advance(to: LSN(7))
    #expect(ledger.checkpoint == LSN(7))
    ledger.advance(to: LSN(3))
    #expect(ledger.checkpoint == LSN(7))
    _ = ledger.open(commitLSN: LSN(10), commitTime: 0)
    ledger.sent()
    ledger.close(endLSN: LSN(12))
    ledger.advance(to: LSN(50))
    #expect(ledger.checkpoint == LSN(7))
    _ = ledger.settle(ledger.tag)
    #expect(ledger.checkpoint == LSN(50))
  }

  @Test func `an interrupted transaction resumes after the rows that were sent`() {
    var ledger = Ledger()
    _ = ledger.open(commitLSN: LSN(10), commitTime: 0)
    ledger.sent()
    ledger.close(endLSN: LSN(12))
    _ = ledger.open(commitLSN: LSN(20), commitTime: 0)
    ledger.sent()
    ledger.sent()
    #expect(ledger.open(commitLSN: LSN(10), commitTime: 0) == .known)
    #expect(ledger.open(commitLSN: LSN(20), commitTime: 0) == .resumed(rows: 2))
    ledger.close(endLSN: LSN(22))
    #expect(ledger.open(commitLSN: LSN(20), commitTime: 0) == .known)
  }

  @Test func `a source that goes on without the rest of a transaction is not believed`() {
    var ledger = Ledger()
    _ = ledger.open(commitLSN: LSN(10), commitTime: 0)
    ledger.sent()
    #expect(ledger.open(commitLSN: LSN(20), commitTime: 0) == .gap)
    _ = ledger.settle(ledger.tag)
    #expect(ledger.checkpoint == .zero)
  }

  @Test func `a late delivery of an abandoned sink settles nothing`() {
    var ledger = Ledger()
    _ = ledger.open(commitLSN: LSN(10), commitTime: 0)
    let stale = ledger.tag
    ledger.sent()
    ledger.rewind()
    #expect(ledger.open(commitLSN: LSN(10), commitTime: 0) == .new)
    ledger.sent()
    ledger.close(endLSN: LSN(12))
    #expect(ledger.settle(stale) == nil)
    #expect(ledger.checkpoint == .zero)
  }

  /// The model keeps every row; the ledger keeps counts. Both must agree after each step.
  @Test func `it agrees with a model under random settle orders`() {
    let seed = freshSeed()
    print("ledger model seed \(seed)")
    var random = SeededGenerator(seed: seed)
    for _ in 0..<200 {
      var ledger = Ledger()
      struct Transaction {
        var end: UInt64
        var pending: Int
        var isClosed: Bool
      }
      var model: [Transaction] = []
      var inFlight: [(tag: UInt64, transaction: Int)] = []
      var position: UInt64 = 1
      var checkpoint: UInt64 = 0
      for _ in 0..<500 {
        switch Int.random(in: 0..<10, using: &random) {
        case 0...2 where model.last?.isClosed ?? true:
          position += UInt64.random(in: 1...9, using: &random)
          #expect(ledger.open(commitLSN: LSN(position), commitTime: 0) == .new, "seed \(seed)")
          model.append(Transaction(end: 0, pending: 0, isClosed: false))
        case 0...4 where model.last?.isClosed == false:
          inFlight.append((ledger.tag, model.count - 1))
          ledger.sent()
          model[model.count - 1].pending += 1
        case 5 where model.last?.isClosed == false:
          position += UInt64.random(in: 1...9, using: &random)
          ledger.close(endLSN: LSN(position))
          model[model.count - 1].end = position
          model[model.count - 1].isClosed = true
        case 6 where model.last?.isClosed ?? true:
          position += 1
          ledger.advance(to: LSN(position))
          model.append(Transaction(end: position, pending: 0, isClosed: true))
        default:
          guard !inFlight.isEmpty else { continue }
          let index = Int.random(in: 0..<inFlight.count, using: &random)
          let (tag, transaction) = inFlight.remove(at: index)
          #expect(ledger.settle(tag) != nil, "seed \(seed)")
          model[transaction].pending -= 1
        }
        for transaction in model {
          guard transaction.isClosed, transaction.pending == 0 else { break }
          checkpoint = max(checkpoint, transaction.end)
        }
        #expect(ledger.checkpoint.rawValue == checkpoint, "seed \(seed)")
        #expect(ledger.outstanding == inFlight.count, "seed \(seed)")
      }
    }
  }
}
