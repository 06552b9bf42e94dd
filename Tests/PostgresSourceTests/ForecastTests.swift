// Owns: what is said before it happens: columns that the stream lacks, NULLs, encodings, policies, slots that are lost.
import RelayCore
import Testing

@testable import PostgresSource

private func column(
  _ name: String, _ oid: UInt32 = 25, nullable: Bool = false, generated: String = ""
) -> TableFacts.Column {
  TableFacts.Column(
    name: name, type: "", typeOID: oid, typeName: "", isNullable: nullable, generated: generated)
}

/// A server on which nothing is to be said: the table of sql/01, whose slot has a checkpoint.
private func facts(_ change: (inout ServerFacts) -> Void = { _ in }) -> ServerFacts {
  var table = TableFacts(schema: "public", name: "outbox")
  table.columns = [
    column("id", 2950), column("aggregatetype"), column("aggregateid"), column("type"),
    column("payload", 3802, nullable: true), column("headers", 3802, nullable: true),
    column("created_at", 1184),
  ]
  var facts = ServerFacts(
    serverVersion: 150_020, systemIdentifier: 1, timeline: 1, walEnd: LSN(0x1000), database: "app",
    slot: SlotFacts(database: "app", confirmedFlushLSN: LSN(0x100)),
    publication: PublicationFacts(tables: [PublicationFacts.Table(schema: "public", name: "outbox")]),
    tables: [table],
    journal: .row(JournalRow(Checkpoint(lsn: LSN(0x200), systemIdentifier: 1, timeline: 1))))
  change(&facts)
  return facts
}

private func decision(
  _ facts: ServerFacts, _ mapping: OutboxMapping = OutboxMapping(), former: Int? = nil
) -> StartDecision {
  StartDecision(
    facts: facts, settings: PostgresSettings(), mappings: [mapping], resume: nil, formerBackend: former)
}

private func expectFinding(
  _ facts: ServerFacts, _ words: String..., remedy: String, isNotice: Bool = false,
  sourceLocation: SourceLocation = #_sourceLocation
) {
  let decision = decision(facts)
  #expect(decision.faults.isEmpty, "\(decision.faults)", sourceLocation: sourceLocation)
  #expect(decision.findings.count == 1, "\(decision.findings)", sourceLocation: sourceLocation)
  guard let finding = decision.findings.first else { return }
  for word in words {
    #expect(finding.message.contains(word), "\(finding)", sourceLocation: sourceLocation)
  }
  #expect(finding.remedy?.contains(remedy) == true, "\(finding)", sourceLocation: sourceLocation)
  #expect((finding.level == .notice) == isNotice, sourceLocation: sourceLocation)
}

private func expectFault(
  _ facts: ServerFacts, _ kind: RelayError.Kind, _ words: String..., remedy: String,
  sourceLocation: SourceLocation = #_sourceLocation
) {
  guard let fault = decision(facts).faults.first else {
    Issue.record("no fault", sourceLocation: sourceLocation)
    return
  }
  #expect(fault.kind == kind, sourceLocation: sourceLocation)
  for word in words { #expect(fault.message.contains(word), "\(fault)", sourceLocation: sourceLocation) }
  #expect(fault.remedy?.contains(remedy) == true, "\(fault)", sourceLocation: sourceLocation)
}

@Suite struct ForecastTests {
  @Test func `a sound database has no findings`() {
    #expect(decision(facts()).findings.isEmpty && decision(facts()).faults.isEmpty)
  }

  @Test func `a column list that leaves out what the mapping uses by default is said with its consequence`() {
    let facts = facts {
      $0.publication?.tables[0].hasColumnList = true
      $0.publication?.tables[0].columns = [
        "id", "aggregatetype", "aggregateid", "type", "payload", "headers",
      ]
    }
    expectFinding(
      facts, "\"created_at\" (time)", "column list", "that of the commit", remedy: "ALTER PUBLICATION")
    #expect(decision(facts).findings[0].remedy?.contains("outboxd recover") == true)
  }

  @Test func `a column list that leaves out what an event needs is a fault`() {
    let facts = facts {
      $0.publication?.tables[0].hasColumnList = true
      $0.publication?.tables[0].columns = ["id", "aggregatetype", "aggregateid", "type"]
    }
    expectFault(
      facts, .publicationUnsuitable, "\"payload\" (payload)", "column list", remedy: "outboxd recover")
  }

  @Test func `generated columns are missed before the first row`() {
    func generated(_ kind: String, _ version: Int, published: Bool = false) -> ServerFacts {
      facts {
        $0.serverVersion = version
        $0.tables[0].columns[3].generated = kind
        $0.publication?.publishesGenerated = published
        $0.publication?.canPublishGenerated = version >= 180_000
      }
    }
    expectFault(generated("s", 150_020), .publicationUnsuitable, "generated column", "type", remedy: "plain")
    expectFault(
      generated("s", 180_000), .publicationUnsuitable, "generated column",
      remedy: "publish_generated_columns = stored")
    expectFault(generated("v", 180_000, published: true), .publicationUnsuitable, "virtual", remedy: "plain")
    #expect(decision(generated("s", 180_000, published: true)).faults.isEmpty)
    let time = facts { $0.tables[0].columns[6].generated = "s" }
    expectFinding(time, "\"created_at\" (time)", "generated column", remedy: "Map another column")
  }

  @Test func `a row filter's remedy names recover and the range`() {
    let facts = facts { $0.publication?.tables[0].hasRowFilter = true }
    expectFault(facts, .publicationUnsuitable, "row filter", "0/200", "0/1000", remedy: "outboxd recover")
  }

  @Test func `columns whose NULL would halt the relay are named, with the statement`() {
    let nullable = facts {
      $0.tables[0].columns[0].isNullable = true
      $0.tables[0].columns[1].isNullable = true
    }
    expectFinding(
      nullable, "id, aggregatetype", "exit code 23", remedy: "ALTER COLUMN \"id\" SET NOT NULL",
      isNotice: true)
    // The default key is left out where it is NULL.
    let keyless = facts { $0.tables[0].columns[2].isNullable = true }
    #expect(decision(keyless).findings.isEmpty)
  }

  @Test(arguments: [("SQL_ASCII", false), ("WIN1252", true), ("EUC_JP", true)])
  func `encodings with text that cannot be sent are named`(encoding: String, isNotice: Bool) {
    expectFinding(
      facts { $0.encoding = encoding }, encoding, "exit code 23", remedy: "UTF8", isNotice: isNotice)
  }

  @Test func `what the server will do to the slot is said`() {
    expectFinding(
      facts { $0.idleSlotTimeout = 86_400 }, "86400 s", "idle_replication_slot_timeout",
      remedy: "idle_replication_slot_timeout = 0")
    expectFinding(facts { $0.isPooled = true }, "pooler", remedy: "directly")
  }

  @Test func `policies that stop the jobs, and a publication that stops the writers, are said`() {
    expectFinding(facts { $0.tables[0].hasRowSecurity = true }, "exit code 77", remedy: "BYPASSRLS")
    let updates = facts {
      $0.tables[0].hasReplicaIdentity = false
      $0.publication?.publishesUpdates = true
    }
    #expect(
      decision(updates).findings.contains { $0.message.contains("UPDATE and DELETE of the table fail") })
    let inserts = facts { $0.tables[0].hasReplicaIdentity = false }
    #expect(decision(inserts).findings.isEmpty)
  }

  @Test func `a partition outside the WAL is a fault`() {
    expectFault(
      facts { $0.tables[0].unloggedPartitions = ["outbox_p1"] }, .tableUnsuitable, "outbox_p1",
      remedy: "SET LOGGED")
  }
}

@Suite struct SlotFaultTests {
  @Test func `a two-phase slot is refused with the statement for its version`() {
    func twoPhase(_ version: Int, _ journal: JournalFacts? = nil) -> ServerFacts {
      facts {
        $0.serverVersion = version
        $0.slot?.isTwoPhase = true
        if let journal { $0.journal = journal }
      }
    }
    expectFault(twoPhase(150_020), .slotUnsuitable, "two_phase", remedy: "outboxd recover")
    expectFault(
      twoPhase(170_010), .slotUnsuitable, "two_phase", remedy: "pg_drop_replication_slot('outboxd')")
    expectFault(twoPhase(150_020, .empty), .slotUnsuitable, "two_phase", remedy: "outboxd backfill")
    expectFault(twoPhase(180_004), .slotUnsuitable, "two_phase", remedy: "(TWO_PHASE false)")
    // recover says the same, and does not say that all is well.
    #expect(throws: RelayError.self) {
      _ = try RecoveryPlan.decide(
        twoPhase(150_020), settings: PostgresSettings(), mappings: [OutboxMapping()])
    }
  }

  @Test(arguments: [
    ("wal_removed", "max_slot_wal_keep_size"), ("idle_timeout", "idle_replication_slot_timeout"),
    ("rows_removed", "hot_standby_feedback"), ("wal_level_insufficient", "wal_level"),
  ])
  func `an invalidated slot has the remedy of its reason`(reason: String, words: String) {
    expectFault(facts { $0.slot?.invalidationReason = reason }, .slotLost, reason, remedy: words)
  }

  @Test func `the former connection of this process is no other outboxd`() {
    let held = facts {
      $0.slot?.isActive = true
      $0.slot?.activePID = 4711
    }
    #expect(decision(held).faults.map(\.kind) == [.slotActive])
    #expect(decision(held, former: 4712).faults.map(\.kind) == [.slotActive])
    let own = decision(held, former: 4711).faults.first
    #expect(own?.kind == .sourceUnavailable && own?.message.contains("60 s") == true)
    #expect(own?.remedy?.contains("pg_terminate_backend(4711)") == true, "\(String(describing: own))")
  }
}
