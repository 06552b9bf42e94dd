// Owns: what every kind of failure leads to, in the daemon and in a job, before and after the first source.
import RelayCore
import Testing

@testable import outboxd

@Suite struct ReactionTableTests {
  private typealias Reaction = RelayError.Kind.Reaction
  private typealias Kinds = Set<RelayError.Kind>

  /// Kinds that the sets do not name end the session.
  private func check(
    _ table: ReactionTable, hasStreamed: Bool, reconnect: Kinds = [], standBy: Kinds = [],
    rebuild: Kinds = []
  ) {
    let policy: Kinds = [.rowRejected, .recordRejected]
    for kind in RelayError.Kind.allCases {
      let expected: Reaction =
        reconnect.contains(kind)
        ? .reconnectSource
        : standBy.contains(kind)
          ? .standBy : rebuild.contains(kind) ? .rebuildSink : policy.contains(kind) ? .applyPolicy : .halt
      let found = table.reaction(to: RelayError(kind, ""), hasStreamed: hasStreamed)
      #expect(found == expected, "\(kind), streamed: \(hasStreamed)")
    }
  }

  @Test(arguments: [false, true])
  func `the daemon outlives what passes and what a person can correct without a restart`(hasStreamed: Bool) {
    check(
      .daemon, hasStreamed: hasStreamed, reconnect: [.sourceUnavailable, .sourceDenied],
      standBy: [.slotActive], rebuild: [.sinkFailed, .sinkDenied])
  }

  @Test func `a job ends at what needs a person, and at any loss of its source before it has begun`() {
    check(.job, hasStreamed: false, rebuild: [.sinkFailed])
    check(
      .job, hasStreamed: true, reconnect: [.sourceUnavailable, .slotActive], rebuild: [.sinkFailed])
  }

  @Test func `after a promotion the daemon judges the new primary, and a job leaves that to a person`() {
    var error = RelayError(.sourceUnavailable, "")
    error.invalidatesStart = true
    #expect(ReactionTable.daemon.reaction(to: error, hasStreamed: true) == .reconnectSource)
    #expect(ReactionTable.job.reaction(to: error, hasStreamed: true) == .halt)
  }
}
