// Owns: the hand-over to the journal's writer: what it is given, what it may say, who is woken.
import Synchronization
import Testing

@testable import RelayCore

@Suite struct CheckpointMailboxTests {
  private let wake = WakeSignal()
  private let metrics = RelayMetrics()
  private let mailbox: CheckpointMailbox
  private var soon: MonotonicTime { MonotonicTime.now().advanced(milliseconds: 10_000) }

  init() { mailbox = CheckpointMailbox(slot: "s", wake: wake, log: Log(level: .error), metrics: metrics) }

  private func acknowledgement(_ lsn: UInt64, in session: CheckpointSession) -> JournalAcknowledgement {
    JournalAcknowledgement(LSN(lsn), in: session)
  }

  @Test func `without a journal everything counts as written at once`() {
    #expect(mailbox.store(LSN(7), in: mailbox.session) == acknowledgement(7, in: mailbox.session))
    let session = mailbox.begin(LSN(7), keepsJournal: false)
    #expect(mailbox.finish(LSN(8), in: session, deadline: .now()) == acknowledgement(8, in: session))
    #expect(mailbox.pending(in: session) == nil)
  }

  @Test func `the writer gets the newest checkpoint, and the relay the newest that is written`() {
    let session = mailbox.begin(LSN(5), keepsJournal: true)
    #expect(mailbox.pending(in: session) == nil)
    #expect(mailbox.store(LSN(6), in: session) == acknowledgement(5, in: session))
    #expect(mailbox.store(LSN(7), in: session) == acknowledgement(5, in: session))
    #expect(mailbox.pending(in: session) == LSN(7))
    mailbox.written(acknowledgement(7, in: session))
    #expect(mailbox.pending(in: session) == nil)
    #expect(mailbox.store(LSN(8), in: session) == acknowledgement(7, in: session))
    #expect(metrics.journaledLSN.load(ordering: .relaxed) == 7)
  }

  @Test func `neither side of a session that is over reaches the next one`() {
    let former = mailbox.begin(LSN(5), keepsJournal: true)
    _ = mailbox.store(LSN(9), in: former)
    let session = mailbox.begin(LSN(3), keepsJournal: true)
    mailbox.written(acknowledgement(9, in: former))
    #expect(mailbox.journaled == LSN(3))
    #expect(mailbox.store(LSN(9), in: former) == acknowledgement(3, in: session))
    #expect(mailbox.finish(LSN(9), in: former, deadline: soon) == acknowledgement(3, in: session))
    #expect(mailbox.pending(in: session) == nil)
    _ = mailbox.store(LSN(4), in: session)
    #expect(mailbox.pending(in: former) == nil && mailbox.pending(in: session) == LSN(4))
  }

  @Test func `finish wakes the writer, and waits for it`() throws {
    let session = mailbox.begin(LSN(5), keepsJournal: true)
    let writer = try writer(of: session) { [mailbox] lsn in
      #expect(mailbox.isUrgent)
      mailbox.failed()
      mailbox.written(JournalAcknowledgement(lsn, in: session))
    }
    #expect(mailbox.finish(LSN(6), in: session, deadline: soon) == acknowledgement(6, in: session))
    #expect(!mailbox.isUrgent)
    writer.join()
  }

  @Test func `finish gives up a writer that fails twice, and one that is too late`() throws {
    let session = mailbox.begin(LSN(5), keepsJournal: true)
    let writer = try writer(of: session) { [mailbox] _ in
      mailbox.failed()
      mailbox.failed()
    }
    let deadline = soon
    #expect(mailbox.finish(LSN(6), in: session, deadline: deadline) == acknowledgement(5, in: session))
    #expect(MonotonicTime.now() < deadline)
    writer.join()
    #expect(mailbox.finish(LSN(7), in: session, deadline: .now()) == acknowledgement(5, in: session))
  }

  @Test func `the end of a process is settled only at the checkpoint that the journal has`() throws {
    let session = mailbox.begin(LSN(5), keepsJournal: true)
    mailbox.settle(at: LSN(6), deadline: soon)
    #expect(mailbox.settling(in: session) == nil)
    mailbox.settle(at: LSN(5), deadline: .now())
    #expect(mailbox.settling(in: session) == LSN(5))
    #expect(mailbox.settling(in: CheckpointSession(7)) == nil)
    let next = mailbox.begin(LSN(5), keepsJournal: true)
    #expect(mailbox.settling(in: next) == nil)
  }

  /// A thread that answers, once, what `finish` asks for.
  private func writer(
    of session: CheckpointSession, _ answer: @escaping @Sendable (LSN) -> Void
  ) throws -> RelayThread {
    try RelayThread(name: "writer") { [mailbox, wake] in
      wake.wait(milliseconds: 10_000)
      if let lsn = mailbox.pending(in: session) { answer(lsn) }
    }
  }
}
