// Owns: the gaps of a campaign, made on purpose.
// Must not know: how they are closed.
import Foundation
import Glibc
import RelayTesting

extension Campaign {
  func gap(_ random: inout SeededGenerator) throws {
    try world.finishPrepared(&random)
    if !halts.isEmpty { try start() }
    if relay == nil, !hasRun || random.chance(50) { try start() }
    if random.chance(50) { try settle() }
    if random.chance(50) { try world.write(&random) }
    if random.chance(30) { try kill() } else { try stop() }
    try world.finishPrepared(&random)
    hadGap = true
    let outbox = random.pick(world.configured)
    let table = "public.\(outbox.name)"
    let kind = Int.random(in: 0..<8, using: &random)
    world.tell("gap \(kind)")
    switch kind {
    case 0:
      try lose("SELECT pg_drop_replication_slot('\(slot)');")
      for outbox in world.configured { world.duties[outbox.name] = "gap" }
      halts = [10, 13]
    case 1:
      try lose("SELECT pg_replication_slot_advance('\(slot)', pg_current_wal_lsn());")
      halts = [13]
    case 2:
      try lose("SELECT pg_drop_replication_slot('\(slot)');")
      world.duties = world.duties.mapValues { $0 == "stream" ? "gap" : $0 }
      if random.chance(70) { try world.write(&random) }
      try world.finishPrepared(&random)
      try world.act("SELECT pg_create_logical_replication_slot('\(slot)', 'pgoutput');")
      for outbox in world.configured { world.duties[outbox.name] = "stream" }
      halts = [13]
    case 3:
      try lose("DROP PUBLICATION outboxd;")
      world.duties = world.duties.mapValues { $0 == "stream" ? "gap" : $0 }
      if random.chance(70) { try world.write(&random) }
      try world.finishPrepared(&random)
      try initialize()
      for outbox in world.configured { world.duties[outbox.name] = "gap" }
      halts = [19]
    case 4, 5:
      try world.act("ALTER PUBLICATION outboxd DROP TABLE \(table);")
      world.duties[outbox.name] = "gap"
      try world.write(&random)
      try world.finishPrepared(&random)
      try world.act("ALTER PUBLICATION outboxd ADD TABLE \(table);")
      world.duties[outbox.name] = "stream"
      halts = [19]
    case 6:
      try world.swap(outbox.name, &random, follow: "")
      try world.act(
        "UPDATE truth.event SET duty = 'outside' WHERE box = '\(outbox.name)' AND duty = 'before';")
      world.duties[outbox.name] = "gap"
      try world.write(&random)
      try world.finishPrepared(&random)
      try world.act("ALTER PUBLICATION outboxd SET TABLE \(tables);")
      world.duties[outbox.name] = "stream"
      halts = [19]
    default:
      try lose("SELECT 'recover --tables';")
      for outbox in world.configured { world.duties[outbox.name] = "gap" }
      return try recover(["gap"], wish: ["--tables"], interruptions: random.pick([0, 1, 2]), &random)
    }
    for _ in 0..<Int.random(in: 0...2, using: &random) { try quiet(&random) }
    if random.chance(40) { return try start() }
    try recover(["gap"], interruptions: random.pick([0, 1, 2]), &random)
  }

  /// What the stream had not sent is nowhere but in the tables then.
  func lose(_ statement: String) throws {
    try world.act("\(statement) UPDATE truth.event SET duty = 'gap' WHERE duty = 'stream';")
  }
}
