// Owns: the plans of the tables whose shapes have come, and which of them are kept.
// Must not know: how a plan is made, rows.

/// Plans by the OID of their table. Tables may come and go without end, and a partition sends its shape too: of more
/// than `limit` the less recently used half is evicted. The server sends a shape once a connection, and again only
/// after a change: what was evicted comes back with another connection.
struct PlanCache {
  private struct Entry {
    var plan: Result<RowPlan, RelayError>
    var lastUse: UInt64
  }

  let limit: Int
  private var entries: [UInt32: Entry] = [:]
  private var uses: UInt64 = 0
  private var hasEvicted = false

  /// - Parameter limit: more than the tables that send rows.
  init(limit: Int) { self.limit = limit }

  var count: Int { entries.count }

  /// Keeps the plan of a table, or why there is none.
  mutating func insert(_ plan: Result<RowPlan, RelayError>, for relationID: UInt32) {
    uses += 1
    entries[relationID] = Entry(plan: plan, lastUse: uses)
    if entries.count > limit { evict() }
  }

  /// - Throws: why there is none; `streamMalformed` for a table whose shape has not come; `sourceUnavailable` where it
  ///   may have been evicted, so that the server is connected to again and sends it.
  mutating func plan(of relationID: UInt32) throws(RelayError) -> RowPlan {
    uses += 1
    entries[relationID]?.lastUse = uses
    if let plan = entries[relationID]?.plan { return try plan.get() }
    throw hasEvicted
      ? RelayError(
        .sourceUnavailable,
        "the description of relation \(relationID) is no longer kept; reconnecting to receive it again")
      : RelayError(
        .streamMalformed, "the server sent a row of relation \(relationID) without its description")
  }

  private mutating func evict() {
    let lastUses = entries.values.map(\.lastUse).sorted()
    let oldest = lastUses[lastUses.count / 2]
    entries = entries.filter { $0.value.lastUse >= oldest }
    hasEvicted = true
  }
}
