// Owns: the judgement on one seed of the table campaign: what Kafka has against what was committed.
// Must not know: how it came about.
import Foundation
import RelayTesting

extension Campaign {
  private struct Event {
    var id: String
    var box: String
    var key: String
    var version: Int
    var xid: Int
    var duty: String
    var origin: String
    var isChanged: Bool
  }

  private struct Delivery: Decodable {
    var id: String
    /// Nil: it came from a table.
    var sequence: String?
    /// When it was sent, in milliseconds since 1970.
    var time: Int64
    var place: String
  }

  /// Enters what is missing, invented, out of order, or sent although nobody said so.
  func judge() throws -> String {
    var events: [String: Event] = [:]
    for line in try world.sql(
      "SELECT id, box, key, version, xid, duty, origin, changed FROM truth.event"
    ).split(separator: "\n") {
      let word = line.split(separator: "|").map(String.init)
      events[word[0]] = Event(
        id: word[0], box: word[1], key: word[2], version: Int(word[3]) ?? 0, xid: Int(word[4]) ?? 0,
        duty: word[5], origin: word[6], isChanged: word[7] == "t")
    }
    let output = try ChildProcess.check([
      TestTools.python, "-B", Workload.folder + "/deliveries.py", "--brokers", brokers, "--prefix",
      prefix + ".",
    ])
    let deliveries = try output.split(separator: "\n").map {
      try JSONDecoder().decode(Delivery.self, from: Data($0.utf8))
    }
    var first: [String: Delivery] = [:]
    var streamed: [String: Event] = [:]
    var fromTables: [Int: [Delivery]] = [:]
    for delivery in deliveries {
      guard let event = events[delivery.id] else {
        fault("\(delivery.place): \(delivery.id) was not committed")
        continue
      }
      let isFirst = first[delivery.id] == nil
      if isFirst { first[delivery.id] = delivery }
      if delivery.sequence == nil {
        guard let read = reads.lastIndex(where: { $0.began <= delivery.time && delivery.time <= $0.ended })
        else {
          fault("\(delivery.place): \(event) has no sequence, and no job was running")
          continue
        }
        if isFirst || reads[read].doubtful != nil { fromTables[read, default: []].append(delivery) }
      } else if isFirst, !event.isChanged {
        let place = event.box + " " + event.key
        if let last = streamed[place], last.version >= event.version {
          fault("\(delivery.place): the stream sends \(event) after \(last)")
        }
        streamed[place] = event
      }
    }
    for (number, list) in fromTables {
      judgeOrder(
        reads[number], list.filter { first[$0.id]?.place == $0.place }.compactMap { events[$0.id] })
      judgeSuperset(reads[number], list.compactMap { events[$0.id] })
    }
    let missing = events.values.filter {
      ["done", "stream"].contains($0.duty) && first[$0.id] == nil
    }
    if !missing.isEmpty { fault("\(missing.count) events are missing: \(missing.prefix(8))") }
    let owed = events.values.count { ["done", "stream"].contains($0.duty) }
    return
      "\(events.count) events, \(owed) owed, \(deliveries.count) messages, \(reads.count) reads of tables"
  }

  /// The order that the log names, among rows that nobody has touched.
  private func judgeOrder(_ read: CampaignRead, _ events: [Event]) {
    var last: [String: Event] = [:]
    for event in events where !event.isChanged {
      guard let table = read.rows[event.id], let order = read.orders[table],
        let outbox = world.outboxes.first(where: { $0.name == event.box })
      else { continue }
      // Else rows of one transaction may have one value.
      let isExact = order.contains("number") || (order.contains("created_at") && outbox.time != "now()")
      let place = table + " " + event.key
      if let former = last[place], former.version > event.version, isExact || former.xid != event.xid {
        fault("\(read.command) reads \(table) \(order), and sends \(event) after \(former)")
      }
      if last[place].map({ $0.version < event.version }) ?? true { last[place] = event }
    }
  }

  /// Rows of the stream are there only where the report says so.
  private func judgeSuperset(_ read: CampaignRead, _ events: [Event]) {
    guard let doubtful = read.doubtful else { return }
    let surplus = events.filter { $0.origin == "stream" && !$0.isChanged }
    if surplus.count > doubtful {
      fault(
        "\(read.command) sent \(surplus.count) rows of the stream, and calls \(doubtful) doubtful: "
          + "\(surplus.prefix(5))")
    }
  }
}
