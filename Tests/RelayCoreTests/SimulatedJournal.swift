// Owns: the journal of the simulated servers, and the writer between it and the real mailbox.
// Must not know: the relay.
import RelayCore

/// The journal of one process. Its writer is late, fails, loses acknowledgements, and writes and acknowledges for sessions
/// that are over. Each call of the relay gives it a step.
final class SimulatedJournal: CheckpointStore {
  private struct Statement {
    var acknowledgement: JournalAcknowledgement
    var isExecuted = false
  }

  private let world: World
  private let mailbox: CheckpointMailbox
  /// The server of each session.
  private var servers: [CheckpointSession: Int] = [:]
  /// The session that the writer has heard of.
  private var heard = CheckpointSession()
  private var statement: Statement?

  init(_ world: World, metrics: RelayMetrics) {
    self.world = world
    mailbox = CheckpointMailbox(slot: "s", wake: WakeSignal(), log: Log(level: .error), metrics: metrics)
  }

  /// A stream begins at `start`, and its server's journal with it.
  func begin(at start: LSN) {
    world.journal = max(world.journal, start.rawValue)
    servers[mailbox.begin(start, keepsJournal: true)] = world.server
  }

  var session: CheckpointSession { mailbox.session }

  func store(_ checkpoint: LSN, in session: CheckpointSession) -> JournalAcknowledgement {
    step()
    return mailbox.store(checkpoint, in: session)
  }

  func finish(
    _ checkpoint: LSN, in session: CheckpointSession, deadline: MonotonicTime
  ) -> JournalAcknowledgement {
    _ = mailbox.store(checkpoint, in: session)
    for _ in 0..<Int.random(in: 0...20, using: &world.random) { step() }
    // The writer has had its time: nobody would end a wait.
    return mailbox.finish(checkpoint, in: session, deadline: .now())
  }

  private func step() {
    world.writerSteps += 1
    guard var statement else { return begin() }
    if world.random.chance(8) {
      mailbox.failed()
      self.statement = nil
    } else if statement.isExecuted {
      guard world.random.chance(2) else { return }
      mailbox.written(statement.acknowledgement)
      self.statement = nil
    } else if world.random.chance(2) {
      if servers[statement.acknowledgement.session] == world.server {
        world.journal = max(world.journal, statement.acknowledgement.lsn.rawValue)
      }
      statement.isExecuted = true
      self.statement = statement
    }
  }

  private func begin() {
    if world.random.chance(2) { heard = mailbox.session }
    guard let lsn = mailbox.pending(in: heard) else { return }
    statement = Statement(acknowledgement: JournalAcknowledgement(lsn, in: heard))
  }
}
